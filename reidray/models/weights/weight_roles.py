"""Recognise classifiers, heads and computed values by the names that projects give them."""

import re

CLASSIFIER = re.compile(
    r"(^|\.)(fc|head|head\.fc|head_dist|classifier(_\d+)?|last_linear|heads\.(weight|classifier.*)"
    r"|heads\.cls_layer)(\.(weight|bias))?$"
)
"""Names of classifiers in the files of other projects."""

HEAD = re.compile(r"(^|\.)(heads?|fc|bottleneck(_\d+)?|fcneck|pool_layer|pre_logits)\.")
"""Names of what other projects put between a backbone and its classifier."""

COMPUTED = re.compile(r"(^|\.)(relative_position_index|attn_mask|relative_coords_table|pixel_\w+)$")
"""Names of values that follow from the size of an image, or from a setting."""

COUNTER = "num_batches_tracked"


def explain_left_out(name: str, file_prefix: str) -> str:
    """Return the reason why a weight of a file has no place in a network.

    Args:
        name: name of the weight in the file.
        file_prefix: prefix of the file's names of a backbone.
    """
    if CLASSIFIER.search(name):
        return "a classifier"
    if HEAD.search(name):
        return "a head"
    if name.endswith("sie_embed"):
        return "vectors of other cameras"
    if not name.startswith(file_prefix):
        return f"outside of {file_prefix}*"
    return "the network has no such weight"


def is_head(name: str) -> bool:
    """Return whether a weight belongs to a classifier, or to what comes before one."""
    return CLASSIFIER.search(name) is not None or HEAD.search(name) is not None


def is_computed(name: str) -> bool:
    """Return whether a value follows from a setting or counts batches, and is not learned."""
    return name.endswith(COUNTER) or COMPUTED.search(name) is not None
