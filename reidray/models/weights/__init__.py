"""Read the weights of other projects' files, and load them into networks. No job unpickles any."""

from reidray.models.weights.weight_loading import backbone_prefix, load_weights, match_weights
from reidray.models.weights.weight_report import WeightNote, WeightReport
from reidray.models.weights.weight_sources import WeightSource, read_weights

__all__ = [
    "WeightNote",
    "WeightReport",
    "WeightSource",
    "backbone_prefix",
    "load_weights",
    "match_weights",
    "read_weights",
]
