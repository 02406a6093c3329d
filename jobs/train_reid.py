"""Run `reidray train-reid` from a checkout or as a submitted job."""

from reidray.cli.jobs.train_reid import JOB

if __name__ == "__main__":
    JOB.main()
