"""Read dashboards of Grafana as Grafana does: what it does not know is lost."""

import json

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

register_default_plugins()


def find_lost(dashboard):
    """Return the path of the first field that Grafana's model does not keep, or None."""
    read = Dashboard.from_json(json.loads(json.dumps(dashboard)))
    return next(_iter_lost(dashboard, json.loads(json.dumps(read, cls=JSONEncoder))), None)


def _iter_lost(given, kept, path=()):
    if isinstance(given, dict) and isinstance(kept, dict):
        for key, value in given.items():
            yield from _iter_lost(value, kept.get(key, KeyError), (*path, key))
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for place, (one, other) in enumerate(zip(given, kept, strict=True)):
            yield from _iter_lost(one, other, (*path, place))
    elif given != kept:
        yield path
