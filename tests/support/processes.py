"""Find the processes that a process started."""

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
