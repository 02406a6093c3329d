import os

# Before anything imports torch: threads that wait must not spin on a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Before anything imports Ray: under `uv run` it would install the environment anew for its workers.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
