"""Run `reidray recommend` from a checkout or as a submitted job."""

from reidray.cli.jobs.recommend import JOB

if __name__ == "__main__":
    JOB.main()
