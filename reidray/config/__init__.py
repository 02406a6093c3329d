"""What a job may be told: typed, checked, printable. Recipes are files of the same keys."""

from reidray.config.quickstart import QuickstartConfig
from reidray.config.sections.augmentation_options import AugmentConfig
from reidray.config.sections.loss_options import LossConfig, MultitaskLossConfig
from reidray.config.sections.network_options import NetworkConfig
from reidray.config.sections.optimization import BatchConfig, OptimizerConfig
from reidray.config.sections.validation_options import (
    MultitaskValidationConfig,
    ReidValidationConfig,
    ValidationConfig,
)
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
