"""Run `reidray score-nightly` from a checkout or as a submitted job."""

from reidray.cli.jobs.score_nightly import JOB

if __name__ == "__main__":
    JOB.main()
