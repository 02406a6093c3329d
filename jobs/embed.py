"""Run `reidray embed` from a checkout or as a submitted job."""

from reidray.cli.jobs.embed import JOB

if __name__ == "__main__":
    JOB.main()
