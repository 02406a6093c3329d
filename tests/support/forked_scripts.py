"""Run scripts in processes that begin with PyTorch and reidray imported.

A server imports them once, and runs each script in a fork of itself. The script has its own
arguments, environment, folder and streams, and ends as it would in a fresh process. It imports Ray
itself.

Run as a program, this file is the server (`--serve SOCKET`), or has it run a script (`SOCKET SCRIPT
WORDS...`): it lends the script its streams, passes signals on, and exits with its status.
"""

import atexit
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path

IMPORTED = (
    "matplotlib.figure",
    "sklearn.metrics",
    "torch",
    "reidray.metrics",
    "reidray.models",
    "reidray.retrieval",
    "reidray.training.orchestration",
)
STREAMS = (0, 1, 2)
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POLL_SECONDS = 0.02
MAX_REQUEST = 2**17


def script_command(*words):
    """Return the command that runs a script with its arguments in a fork of the server."""
    return [sys.executable, "-IS", __file__, _start_server(), *map(str, words)]


@cache
def _start_server():
    """Start the server of this process, and return the address of its socket."""
    folder = tempfile.TemporaryDirectory()
    address = f"{folder.name}/socket"
    command = [sys.executable, __file__, "--serve", address]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout.readline() == b"ready\n"
    atexit.register(folder.cleanup)
    atexit.register(server.communicate)
    return address


def serve(address):
    """Fork for each request until stdin is closed; return the words of a script in its process."""
    for name in IMPORTED:
        import_module(name)
    gc.freeze()  # a fork would copy what the collector looks at
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            link, _ = listener.accept()
            with link:
                if os.fork() == 0:
                    return watch(link)
        with suppress(ChildProcessError):  # no more of them
            while True:
                os.wait()


def watch(link):
    """Run a script in a fork of this process and end as it does; return its words in the fork."""
    request, streams, _, _ = socket.recv_fds(link, MAX_REQUEST, len(STREAMS))
    script = os.fork()
    if script == 0:
        for number, stream in zip(STREAMS, streams, strict=True):
            os.dup2(stream, number)
            os.close(stream)
        return begin(**json.loads(request))
    for stream in streams:
        os.close(stream)
    while (ended := os.waitpid(script, os.WNOHANG)) == (0, 0):
        if select.select([link], [], [], POLL_SECONDS)[0]:
            number = link.recv(1) or bytes([signal.SIGKILL])  # whoever asked has been killed
            os.kill(script, number[0])
    with suppress(BrokenPipeError):
        link.send(b"%d" % (os.waitstatus_to_exitcode(ended[1]) % 256))
    os._exit(0)


def begin(words, folder, environment):
    """Take over the words, the folder and the environment of a script; return the words."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = words
    sys.path[0] = str(Path(words[0]).resolve().parent)
    return words


def ask(address, words):
    """Have the server run a script, and return its exit status."""
    request = {"words": words, "folder": str(Path.cwd()), "environment": dict(os.environ)}
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
        link.connect(address)
        socket.send_fds(link, [json.dumps(request).encode()], STREAMS)
        for number in PASSED_ON:
            signal.signal(number, lambda number, _: link.send(bytes([number])))
        return int(link.recv(16))


if __name__ == "__main__":
    if sys.argv[1] != "--serve":
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
    if found := serve(sys.argv[2]):
        import runpy

        runpy.run_path(found[0], run_name="__main__")
