"""Signals that end a job: Ctrl-C, a scheduler's SIGTERM, and the SIGHUP of a lost terminal.

Ray replaces the handler of SIGTERM by native code that prints stack traces. So these signals are
blocked in every thread, and a thread of this module waits for them: no handler is ever called.
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
"""Signal that interrupts the main thread; Ray Tune, too, ends a sweep cleanly on it."""
SECONDS_TO_CLEAN_UP = 2.25
"""Ray kills a submitted job that is stopped 3 seconds after its SIGTERM."""

WAKING_INTERVAL = 0.25


@dataclass
class _Interruption:
    """The signals of this process.

    Attributes:
        received: the first signal that asked the job to end.
        raised: whether the main thread has been interrupted for it.
        ending: held by the thread that ends the process.
        resume: gives the command that goes on with the job, or None where nothing can be resumed.
    """

    received: signal.Signals | None = None
    raised: bool = False
    ending: threading.Lock = field(default_factory=threading.Lock)
    resume: Callable[[], str | None] = lambda: None


_interruption = _Interruption()


def watch_signals() -> None:
    """Turn the signals that end a job into a `KeyboardInterrupt` in the main thread.

    The process must then end with `end_interrupted`. It ends by itself where the main thread takes
    longer than `SECONDS_TO_CLEAN_UP` for that, and at a second signal. A signal that the process
    was started to ignore, as by `nohup`, stays ignored. Call it in the main thread, before any
    other thread starts.
    """
    watched = {each for each in ENDING_SIGNALS if signal.getsignal(each) != signal.SIG_IGN}
    restore_handler()
    signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    # A child would inherit what is blocked, and Ray could not end its processes.
    os.register_at_fork(after_in_child=lambda: _unblock(watched))
    sys.unraisablehook = _raise_again(sys.unraisablehook)
    threading.Thread(target=_wait, args=(watched,), daemon=True, name="signals").start()


def restore_handler() -> None:
    """Have a signal interrupt the main thread again, after a library has taken its handler."""
    signal.signal(WAKING_SIGNAL, _interrupt)


def interrupted() -> bool:
    """Return whether a signal has asked the job to end."""
    return _interruption.received is not None


def offer_resume(command: str, *, once: Path) -> None:
    """Show the command that goes on with the job in the line of an interrupted job.

    Args:
        command: the whole command.
        once: the file without which there is nothing to go on with.
    """
    _interruption.resume = lambda: command if once.is_file() else None


def end_interrupted() -> NoReturn:
    """Say in one line that a signal ended the job, and end the process and Ray's that it started.

    The exit status is 128 and the number of the signal: 130 for Ctrl-C, 143 for SIGTERM.
    """
    received = _interruption.received or signal.SIGINT
    with _interruption.ending:
        _kill_children()
        with contextlib.suppress(OSError):
            os.write(2, f"{printable(_message(received))}\n".encode(errors="replace"))
        os._exit(128 + received)  # Ray's own end takes seconds, and writes what nobody asked for


def _message(received: signal.Signals) -> str:
    cause = "" if received == signal.SIGINT else f" by {received.name}"
    command = _interruption.resume()
    return f"interrupted{cause}" + (f": go on with {command}" if command else "")


def _wait(watched: set[signal.Signals]) -> None:
    """Wait for a signal, and have the main thread end the job; end it at once at a second one."""
    _interruption.received = signal.Signals(signal.sigwait(watched))
    threading.Thread(target=_press, daemon=True, name="interruption").start()
    signal.sigwait(watched)
    _end_now()


def _press() -> None:
    """Interrupt the main thread, and end the process where that does not do it in time."""
    main = threading.main_thread().ident
    end = time.monotonic() + SECONDS_TO_CLEAN_UP
    while time.monotonic() < end:
        if not _interruption.raised and main is not None:
            signal.pthread_kill(main, WAKING_SIGNAL)
        time.sleep(WAKING_INTERVAL)
    _end_now()


def _end_now() -> NoReturn:
    """End the process, whatever its other threads do."""
    if _interruption.ending.acquire(timeout=0.5):
        _interruption.ending.release()
        end_interrupted()
    os._exit(128 + (_interruption.received or signal.SIGINT))  # nobody reads what it has to say


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a handler's
    if interrupted() and not _interruption.raised:
        _interruption.raised = True
        raise KeyboardInterrupt


def _raise_again(hook: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Return a hook that repeats an interruption which a callback of Python has swallowed."""

    def repeat(unraisable: Any) -> None:
        if interrupted() and unraisable.exc_type is KeyboardInterrupt:
            _interruption.raised = False
        else:
            hook(unraisable)

    return repeat


def _unblock(watched: set[signal.Signals]) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, watched)


def _kill_children() -> None:
    """Kill the processes that this one started, and theirs, the parents first.

    Ray's end by themselves where there is no `/proc`, once they notice that this one is gone.
    """
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The name of a process, in brackets, may hold anything.
            parent = int(file.read_text(errors="replace").rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(file.parent.name))
    found = children.get(os.getpid(), [])
    for pid in found:
        found += children.get(pid, [])
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
