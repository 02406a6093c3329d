"""Find the processes that a process started, and act once something has happened."""

import threading
import time
from contextlib import contextmanager

import psutil


def named_descendants(pid):
    """Return the processes below process `pid`, each with its name, without ended processes."""
    found = {}
    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return found
    for process in below:
        try:
            found[process] = process.name()
        except psutil.NoSuchProcess:
            continue
    return found


def worker_processes(actor):
    """Return the processes of the actors of a class that Ray runs."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if command.startswith("ray::") and actor in command:
            found.append(process)
    return found


@contextmanager
def once(condition, act):
    """Act in another thread on what a condition finds first; fail where it finds nothing."""
    done = []

    def wait():
        end = time.monotonic() + 100
        while time.monotonic() < end and not done:
            if found := condition():
                act(found)
                done.append(True)
            time.sleep(0.02)

    thread = threading.Thread(target=wait)
    thread.start()
    yield
    acted = bool(done)
    done.append(True)
    thread.join()
    assert acted, "it ended before anything went wrong"
