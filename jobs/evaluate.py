"""Run `reidray evaluate` from a checkout or as a submitted job."""

from reidray.cli.jobs.evaluate import JOB

if __name__ == "__main__":
    JOB.main()
