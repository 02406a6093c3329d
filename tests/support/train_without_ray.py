"""Train as on a machine that lacks Ray: an import of it raises ImportError."""

import sys

sys.modules["ray"] = None

from reidray.cli.main import load_job  # noqa: E402

if __name__ == "__main__":
    load_job("train-reid").main(sys.argv[1:], command="train")
