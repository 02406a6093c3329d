"""Run `reidray quickstart` from a checkout or as a submitted job."""

from reidray.cli.jobs.quickstart import JOB

if __name__ == "__main__":
    JOB.main()
