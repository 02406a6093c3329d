"""Run Python code in processes that begin with PyTorch and reidray imported.

Run as a script, it reads a JSON object from each line of stdin (`text`, `folder`, `environment`),
runs the text in a fork of itself, and writes a JSON object (`status`, `output`) to stdout.
"""

import json
import os
import subprocess
import sys
import tempfile
import traceback


class PythonRunner:
    """Run each block in a process of its own, so that it changes nothing for other tests."""

    def __init__(self):
        command = [sys.executable, __file__]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._server = subprocess.Popen(command, **pipes)

    def run(self, text, folder, environment):
        """Return the exit status of a block and all that it printed."""
        job = {"text": text, "folder": str(folder), "environment": environment}
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        answer = json.loads(self._server.stdout.readline())
        return answer["status"], answer["output"]

    def close(self):
        """End the server."""
        self._server.stdin.close()
        self._server.wait()


def serve():
    import torch  # noqa: F401 - before the first fork

    import reidray.metrics
    import reidray.models
    import reidray.retrieval  # noqa: F401

    for line in sys.stdin:
        job = json.loads(line)
        with tempfile.TemporaryFile("w+") as output:
            child = os.fork()
            if child == 0:
                execute(job, output)
            _, status = os.waitpid(child, 0)
            output.seek(0)
            answer = {"status": os.waitstatus_to_exitcode(status), "output": output.read()}
        print(json.dumps(answer), flush=True)


def execute(job, output):
    """Run a block in this process, and end the process."""
    os.dup2(output.fileno(), 1)
    os.dup2(output.fileno(), 2)
    os.chdir(job["folder"])
    os.environ.update(job["environment"])
    status = 0
    try:
        exec(compile(job["text"], "README.md", "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    serve()
