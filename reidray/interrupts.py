"""End a job on Ctrl-C, a scheduler's SIGTERM, and the SIGHUP of a lost terminal.

Ray replaces the handler of SIGTERM with native code that prints stack traces. So this module blocks
these signals in every thread, and one of its threads waits for them. No handler is ever called.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from reidray.terminal import printable

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
WAKING_SIGNAL = signal.SIGUSR1
"""Signal that interrupts the main thread. Ray Tune, too, ends a sweep cleanly on this signal."""
SECONDS_TO_CLEAN_UP = 2.25
"""Ray kills a submitted job 3 seconds after the SIGTERM that stops the job."""

WAKING_INTERVAL = 0.25


@dataclass
class _Interruption:
    """Hold the state of the interruption of this process.

    Attributes:
        received: first signal that interrupted the job.
        raised: whether the main thread has been interrupted for it.
        ending: lock of the thread that ends the process.
        resume: function that returns the command that resumes the job, or None if nothing can be
            resumed.
    """

    received: signal.Signals | None = None
    raised: bool = False
    ending: threading.Lock = field(default_factory=threading.Lock)
    resume: Callable[[], str | None] = lambda: None


_interruption = _Interruption()


def watch_signals() -> None:
    """Turn the signals that end a job into a `KeyboardInterrupt` in the main thread.

    The process must then end with `end_interrupted`. It ends by itself if the main thread takes
    longer than `SECONDS_TO_CLEAN_UP`, and at a second signal. A signal that the process was started
    to ignore, as under `nohup`, stays ignored. Call this function in the main thread before any
    other thread starts.
    """
    watched = {each for each in ENDING_SIGNALS if signal.getsignal(each) != signal.SIG_IGN}
    restore_interrupt_handler()
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    # A child would inherit the blocked signals, and Ray could not end its processes.
    os.register_at_fork(after_in_child=lambda: _unblock(watched))
    sys.unraisablehook = _raise_again(sys.unraisablehook)
    threading.Thread(target=_wait, args=(watched,), daemon=True, name="signals").start()


def restore_interrupt_handler() -> None:
    """Install the handler that interrupts the main thread, after a library has replaced it."""
    signal.signal(WAKING_SIGNAL, _interrupt)


def interrupted() -> bool:
    """Return whether a signal has interrupted the job."""
    return _interruption.received is not None


def set_resume_command(command: str, *, once: Path) -> None:
    """Set the command that the line about an interruption offers to resume the job.

    Args:
        command: command with its arguments.
        once: file without which there is nothing to resume.
    """
    _interruption.resume = lambda: command if once.is_file() else None


def end_interrupted() -> NoReturn:
    """Print one line about the interruption, and end this process and its child processes.

    The exit status is 128 plus the number of the signal: 130 for Ctrl-C, 143 for SIGTERM.
    """
    received = _interruption.received or signal.SIGINT
    with _interruption.ending:
        _kill_children()
        with contextlib.suppress(OSError):
            os.write(2, f"{printable(_message(received))}\n".encode(errors="replace"))
        os._exit(128 + received)  # a regular exit of Ray takes seconds and prints messages


def _message(received: signal.Signals) -> str:
    cause = "" if received == signal.SIGINT else f" by {received.name}"
    command = _interruption.resume()
    return f"interrupted{cause}" + (f": go on with {command}" if command else "")


def _wait(watched: set[signal.Signals]) -> None:
    """Wait for a signal and interrupt the main thread; at a second signal end the process."""
    _interruption.received = signal.Signals(signal.sigwait(watched))
    threading.Thread(target=_interrupt_main_thread, daemon=True, name="interruption").start()
    signal.sigwait(watched)
    _end_now()


def _interrupt_main_thread() -> None:
    """Interrupt the main thread, and end the process if the thread does not end it in time."""
    main = threading.main_thread().ident
    end = time.monotonic() + SECONDS_TO_CLEAN_UP
    while time.monotonic() < end:
        if not _interruption.raised and main is not None:
            signal.pthread_kill(main, WAKING_SIGNAL)
        time.sleep(WAKING_INTERVAL)
    _end_now()


def _end_now() -> NoReturn:
    """End the process from any thread."""
    if _interruption.ending.acquire(timeout=0.5):
        _interruption.ending.release()
        end_interrupted()
    os._exit(128 + (_interruption.received or signal.SIGINT))  # stderr is blocked


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's
    if interrupted() and not _interruption.raised:
        _interruption.raised = True
        raise KeyboardInterrupt


def _raise_again(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Return a hook that repeats an interruption that a callback of Python has swallowed."""

    def repeat(unraisable: Any) -> None:
        if interrupted() and unraisable.exc_type is KeyboardInterrupt:
            _interruption.raised = False
        else:
            hook(unraisable)

    return repeat


def _unblock(watched: set[signal.Signals]) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)


def _kill_children() -> None:
    """Kill the processes that this process started, and their children, the parents first.

    Without `/proc` the processes of Ray end once they notice that this process has ended.
    """
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name of a process, in brackets, may contain any character.
            parent = int(file.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(file.parent.name))
    found = children.get(os.getpid(), [])
    for pid in found:
        found += children.get(pid, [])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
