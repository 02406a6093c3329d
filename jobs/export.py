"""Run `reidray export` from a checkout or as a submitted job."""

from reidray.cli.jobs.export import JOB

if __name__ == "__main__":
    JOB.main()
