"""Run `reidray compare` from a checkout or as a submitted job."""

from reidray.cli.jobs.compare import JOB

if __name__ == "__main__":
    JOB.main()
