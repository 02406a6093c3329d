"""The names of the networks, so that a wrong one is told before PyTorch loads."""

from reidray.config.parts import require
from reidray.suggestions import quoted, suggest_name

NETWORK_NAMES: dict[str, tuple[str, ...]] = {
    "reid": ("apr", "baseline", "reid_small", "vgg_triplet_gray", "vgg_triplet_rgb"),
    "pets": (
        *("pets_autoencoder", "pets_mobilenet_dense", "pets_mobilenet_transpose"),
        *("pets_mobilenet_upsample", "pets_scratch_deep", "pets_scratch_transpose"),
        "pets_scratch_upsample",
    ),
    "attributes": ("attributes_vgg",),
}
"""Those that each task can train."""


def require_network(name: str | None, task: str) -> None:
    """Refuse the name of a network that a task cannot train.

    Raises:
        ValueError: there is no such network, or it is for another task.
    """
    names = NETWORK_NAMES[task]
    if name is None or name in names:
        return
    other = next((each for each, known in NETWORK_NAMES.items() if name in known), None)
    reason = f"is for {other}, not for {task}" if other else "does not exist"
    require(False, f"network.name {quoted(name)} {reason}: {suggest_name(name, names)}")
