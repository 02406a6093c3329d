"""What a job may be told: typed, checked, printable. Recipes are files of the same keys."""

from reidray.config.parts import (
    AugmentConfig,
    BatchConfig,
    LossConfig,
    MultitaskLossConfig,
    MultitaskValidationConfig,
    NetworkConfig,
    OptimizerConfig,
    ReidValidationConfig,
    ValidationConfig,
)
from reidray.config.quickstart import QuickstartConfig
from reidray.config.trainings import TrainingConfig, TrainMultitaskConfig, TrainReidConfig

__all__ = [
    "AugmentConfig",
    "BatchConfig",
    "LossConfig",
    "MultitaskLossConfig",
    "MultitaskValidationConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "QuickstartConfig",
    "ReidValidationConfig",
    "TrainMultitaskConfig",
    "TrainReidConfig",
    "TrainingConfig",
    "ValidationConfig",
]
