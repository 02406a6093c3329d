"""Run `reidray tune` from a checkout or as a submitted job."""

from reidray.cli.jobs.tune import JOB

if __name__ == "__main__":
    JOB.main()
