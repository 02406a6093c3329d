"""Register the options of the built-in networks, losses and augmentations, in a fixed order.

The order is that in which augmentations draw random numbers and losses are added.
"""

from reidray.config.options import (  # noqa: F401
    built_in_augmentations,
    built_in_losses,
    person_networks,
    report_networks,
    transformer_networks,
)
