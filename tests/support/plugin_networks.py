"""Register networks for a test, as a plugin does."""

from contextlib import contextmanager

from reidray.config.sections.network_options import NETWORK_OPTIONS, register_network_options
from reidray.models.factory import NETWORKS, register_network


@contextmanager
def registered_network(name, options, build):
    """Register a network while the block runs, and give its name."""
    register_network_options(name)(options)
    register_network(name)(build)
    yield name
    for registry in (NETWORK_OPTIONS, NETWORKS):
        del registry._entries[name]
