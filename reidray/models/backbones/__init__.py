"""Map crops to features. A module of this package registers each backbone that timm does not have.

`BACKBONES` imports the modules of this package to find a backbone by its name. Any other name is
that of a timm model.
"""

from reidray.models.backbones.backbone import Backbone, check_backbones, create_body
from reidray.models.backbones.own_backbones import BACKBONES, register_backbone

__all__ = ["BACKBONES", "Backbone", "check_backbones", "create_body", "register_backbone"]
