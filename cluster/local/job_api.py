"""Reach the job API of a cluster, on this machine or through a tunnel."""

import argparse
import asyncio
import http.client
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import local_cluster

from reidray.errors import MachineError, UserError
from reidray.progress import format_duration
from reidray.terminal import align_columns, print_message

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
"""States of a job that has ended."""

POLL_SECONDS = 0.5
NO_DASHBOARD = "what answers there is no dashboard of Ray"


@dataclass(frozen=True)
class SubmittedJob:
    """Describe a job that was submitted to a cluster.

    Attributes:
        id: submission id.
        status: state as Ray names it.
        exit_code: exit code of the command; None before its end, or if it did not run.
        entrypoint: the command line.
        started: seconds since 1970 at which it was submitted.
        ended: seconds since 1970 at which it ended; None before.
        message: what Ray says about its state.
    """

    id: str
    status: str
    exit_code: int | None
    entrypoint: str
    started: float
    ended: float | None
    message: str

    @classmethod
    def from_answer(cls, answer: Mapping[str, Any]) -> "SubmittedJob":
        """Return the job that an answer of the job API describes."""
        ended = answer["end_time"]
        return cls(
            id=answer["submission_id"],
            status=answer["status"],
            exit_code=answer["driver_exit_code"],
            entrypoint=answer["entrypoint"],
            started=answer["start_time"] / 1000,
            ended=ended / 1000 if ended else None,
            message=answer["message"] or "",
        )

    @property
    def has_ended(self) -> bool:
        """Return whether the job has ended."""
        return self.status in ENDED

    @property
    def seconds(self) -> float:
        """Return the time from the submission of the job to its end, or to now."""
        end = time.time() if self.ended is None else self.ended
        return max(0.0, end - self.started)


@dataclass(frozen=True)
class JobApi:
    """Reach the job API at a URL with a token.

    Attributes:
        url: address of the dashboard, which serves the API.
        token_file: file with the token of the cluster.
    """

    url: str
    token_file: str

    def request(self, path: str, method: str = "GET") -> Any:
        """Return the JSON response to a request.

        Raises:
            UserError: no job API responds, or the cluster refuses the token.
            MachineError: the API responds with another error.
        """
        headers = {"Authorization": f"Bearer {local_cluster.read_token(self.token_file)}"}
        try:
            request = urllib.request.Request(self.url + path, headers=headers, method=method)
            # The API is on this machine, at a tunnel or at the head: a proxy does not reach it.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise UserError(
                    f"the cluster at {self.url} refuses the token in {self.token_file}: copy the "
                    "token file of its head again"
                ) from None
            if error.code != 404:
                raise MachineError(f"{self.url}{path} answered {error.code}") from error
            raise self._unreachable(NO_DASHBOARD) from None
        except (http.client.HTTPException, json.JSONDecodeError):
            raise self._unreachable(NO_DASHBOARD) from None
        except (OSError, ValueError) as error:
            raise self._unreachable(str(error)) from None

    def _unreachable(self, reason: str) -> UserError:
        return UserError(
            f"cannot reach a cluster at {self.url} ({reason}): check the address, which is that of "
            "the dashboard, and the tunnel"
        )

    def jobs(self) -> list[SubmittedJob]:
        """Return the submitted jobs in the order in which they were submitted."""
        answers = self.request("/api/jobs/")
        jobs = [SubmittedJob.from_answer(each) for each in answers if each["submission_id"]]
        return sorted(jobs, key=lambda job: (job.started, job.id))

    def job(self, name: str) -> SubmittedJob:
        """Return a submitted job.

        Raises:
            UserError: the cluster has no such job.
        """
        for job in self.jobs():
            if job.id == name:
                return job
        raise UserError(f"no job {name!r} at {self.url}: cluster/local/list shows the jobs")

    def log(self, job: str) -> str:
        """Return what a job has printed so far."""
        text: str = self.request(f"/api/jobs/{job}/logs")["logs"]
        return text

    def stop(self, job: str) -> None:
        """Stop a job: SIGTERM, and SIGKILL after 3 seconds. Return when it has ended."""
        self.request(f"/api/jobs/{job}/stop", method="POST")
        self.wait(job)

    def wait(self, name: str) -> SubmittedJob:
        """Wait for the end of a job, and return the ended job."""
        while not (job := self.job(name)).has_ended:
            time.sleep(POLL_SECONDS)
        return job

    def connect(self) -> "JobSubmissionClient":
        """Return Ray's client of this API, which uploads folders and follows logs."""
        token_path = str(Path(self.token_file).resolve())
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token_path}
        os.environ.pop("RAY_AUTH_TOKEN", None)
        from ray.job_submission import JobSubmissionClient  # reads the settings above

        client = JobSubmissionClient(self.url)
        logging.disable(logging.WARNING)  # Ray reports uploads and closed connections
        return client


def add_api_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name a cluster other than the one that is up on this machine."""
    parser.add_argument("--address", metavar="URL", help="the job API (the cluster that is up)")
    parser.add_argument("--token-file", metavar="FILE", help="its token; needed with --address")


def find_api(args: argparse.Namespace) -> JobApi:
    """Return the job API that the command line names, once it accepts the token.

    Raises:
        UserError: no cluster is up, this machine only joined one, or the API does not respond.
    """
    if args.address:
        if not args.token_file:
            raise UserError("--address needs --token-file: the token of that cluster")
        api = JobApi(checked_url(args.address), args.token_file)
    else:
        cluster = local_cluster.running_cluster()
        if cluster.dashboard is None:
            raise UserError(
                "this machine only joined a cluster: run this on the head, "
                "or reach its job API with --address and --token-file"
            )
        api = JobApi(cluster.dashboard, args.token_file or cluster.token_file)
    api.request("/api/version")
    return api


def checked_url(address: str) -> str:
    """Return the URL of a dashboard without the slash at its end.

    Raises:
        UserError: the text is no such URL.
    """
    if not re.fullmatch(r"https?://[^/\s]+(/\S*)?", address):
        raise UserError(
            f"--address {address}: expected the URL of a dashboard, as in http://127.0.0.1:8265"
        )
    return address.rstrip("/")


def follow_log(client: "JobSubmissionClient", job: str) -> None:
    """Print the log of a job as it is written, until the job ends.

    Raises:
        MachineError: the connection ends before.
    """

    async def follow() -> None:
        async for lines in client.tail_job_logs(job):
            print(lines, end="", flush=True)

    try:
        asyncio.run(follow())
    except RuntimeError as error:
        raise MachineError(
            f"{error}: the job may go on, and cluster/local/logs --follow {job} shows it"
        ) from error


def exit_status(job: SubmittedJob) -> int:
    """Return the exit status of the command of an ended job, and say if it did not run."""
    if job.exit_code is None:
        print_message(f"failed: job {job.id} {job.status}: {job.message}")
        return 1
    return job.exit_code if job.exit_code >= 0 else 128 - job.exit_code


def job_table(jobs: Sequence[SubmittedJob]) -> list[str]:
    """Return jobs as lines of a table, with the time of the submission and the duration."""
    rows = [("job", "status", "exit", "submitted", "duration")]
    for job in jobs:
        code = "" if job.exit_code is None else str(job.exit_code)
        submitted = datetime.fromtimestamp(job.started).strftime("%Y-%m-%d %H:%M:%S")
        rows.append((job.id, job.status, code, submitted, format_duration(job.seconds)))
    commands = ["command", *(job.entrypoint for job in jobs)]
    return [
        f"{line}  {command}" for line, command in zip(align_columns(rows), commands, strict=True)
    ]
