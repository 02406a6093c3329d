"""Run a Python worker of Ray in this process; the arguments are what Ray gives to Python for it."""

import runpy
import sys
from pathlib import Path

import torch
from ray._private.runtime_env.context import RuntimeEnvContext
from ray._private.utils import update_envs
from ray._private.workers.setup_worker import parser

words = sys.argv[1:]
if Path(words[0]).name == "setup_worker.py":  # it sets the environment and starts Python anew
    given, words = parser.parse_known_args(words[1:])
    update_envs(RuntimeEnvContext.deserialize(given.serialized_runtime_env_context).env_vars)
torch.set_num_threads(1)  # as where Ray sets OMP_NUM_THREADS before a worker imports PyTorch
sys.argv[:] = words
sys.path[0] = str(Path(words[0]).parent)
runpy.run_path(words[0], run_name="__main__")
