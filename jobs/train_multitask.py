"""Run `reidray train-multitask` from a checkout or as a submitted job."""

from reidray.cli.jobs.train_multitask import JOB

if __name__ == "__main__":
    JOB.main()
