"""Configure jobs by frozen dataclasses, which check their values. Recipes hold the same keys."""

from reidray.config import options  # noqa: F401
from reidray.config.quickstart import QuickstartConfig
from reidray.config.sections.augmentation_options import (
    AugmentationOptions,
    AugmentConfig,
    register_augmentation_options,
)
from reidray.config.sections.limits import limited
from reidray.config.sections.loss_options import (
    LossConfig,
    LossOptions,
    MultitaskLossConfig,
    register_loss_options,
)
from reidray.config.sections.network_options import (
    NetworkConfig,
    NetworkOptions,
    register_network_options,
)
from reidray.config.sections.optimization import BatchConfig, OptimizerConfig
from reidray.config.sections.validation_options import (
    MultitaskValidationConfig,
    ReidValidationConfig,
    ValidationConfig,
    register_metric,
)
from reidray.config.trainings import TrainingConfig, TrainMultitaskConfig, TrainReidConfig

__all__ = [
    "AugmentConfig",
    "AugmentationOptions",
    "BatchConfig",
    "LossConfig",
    "LossOptions",
    "MultitaskLossConfig",
    "MultitaskValidationConfig",
    "NetworkConfig",
    "NetworkOptions",
    "OptimizerConfig",
    "QuickstartConfig",
    "ReidValidationConfig",
    "TrainMultitaskConfig",
    "TrainReidConfig",
    "TrainingConfig",
    "ValidationConfig",
    "limited",
    "register_augmentation_options",
    "register_loss_options",
    "register_metric",
    "register_network_options",
]
