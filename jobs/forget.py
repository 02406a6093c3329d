"""Run `reidray forget` from a checkout or as a submitted job."""

from reidray.cli.jobs.forget import JOB

if __name__ == "__main__":
    JOB.main()
