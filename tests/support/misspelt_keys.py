"""Misspell the keys of configurations, one at a time."""

import copy


def key_paths(value, path=(), free=frozenset()):
    """Yield the path of each key in a tree of mappings and lists.

    Args:
        value: the tree.
        path: the path of the tree itself.
        free: keys of mappings whose own keys are free, and are left out.
    """
    if isinstance(value, dict):
        for key, each in value.items():
            yield (*path, key)
            if key not in free:
                yield from key_paths(each, (*path, key), free)
    elif isinstance(value, list):
        for place, each in enumerate(value):
            yield from key_paths(each, (*path, place), free)


def with_typo(config, path):
    """Return a copy of a configuration in which the last letter of one key is doubled."""
    changed = copy.deepcopy(config)
    above = changed
    for step in path[:-1]:
        above = above[step]
    above[path[-1] + path[-1][-1]] = above.pop(path[-1])
    return changed
