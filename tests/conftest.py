import os

from hypothesis import settings

# Before anything imports torch: threads that wait must not spin on a shared machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Before anything imports Ray: under `uv run` it would install the environment anew for its workers.
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")

# A test measures behaviour, not the pace of a shared machine.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
