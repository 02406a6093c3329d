"""Build a training task that takes milliseconds: a small network learns a line."""

import torch
from torch import nn

from reidray.config import OptimizerConfig, ReidValidationConfig
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import TrainerConfig

STEPS = 4
"""Steps of an epoch."""


class LineNetwork(nn.Module):
    """Predict a number with a backbone of three layers and a head."""

    def __init__(self, *, normalises=True):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8) if normalises else nn.Tanh(), nn.Linear(8, 8)
        )
        self.head = nn.Linear(8, 1)
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, inputs):
        return self.head(self.backbone(inputs * self.scale))


class LineTask:
    """Compute the squared errors of a network, and keep its weights after each step."""

    steps_per_epoch, validation_images = STEPS, 8

    def __init__(self, context=DistributedContext()):
        self.context = context
        self.seen, self.validated = [], []
        self._network = None

    def batches(self, epoch):
        random = torch.Generator().manual_seed(epoch)
        for _ in range(STEPS):
            inputs = torch.randn(8, 3, generator=random)
            whole = inputs, inputs.sum(dim=1, keepdim=True)
            yield tuple(part[self.context.rank :: self.context.world_size] for part in whole)

    def batch_size(self, batch):
        self.seen.append(copy_state(self._network))
        return len(batch[0])

    def prepare(self, network):
        self._network = network

    def losses(self, network, batch):
        return {"error": (network(batch[0]) - batch[1]).square().mean()}

    def training_metrics(self):
        return {}

    def validate(self, network):
        assert not network.training
        self.validated.append(copy_state(network))
        with torch.inference_mode():
            error = sum(self.losses(network, batch)["error"] for batch in self.batches(0))
        return {"mean_ap": -float(error)}


def copy_state(network):
    """Return a copy of the weights and buffers of a network."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def build_line_network(**options):
    """Return the network with seeded weights."""
    torch.manual_seed(0)
    return LineNetwork(**options)


def trainer_config(epochs=3, *, limit=None, compiled=False, **optimizer):
    """Return the configuration of a training with some settings of its optimiser."""
    settings = {"learning_rate": 0.02, **optimizer}
    return TrainerConfig(
        seed=0,
        epochs=epochs,
        limit=limit,
        compile=compiled,
        optimizer=OptimizerConfig(**settings),
        validation=ReidValidationConfig(select_by="mean_ap"),
    )


class CheckpointSaver:
    """Keep the records, and the checkpoint of each epoch in a folder named after it."""

    def __init__(self, folder):
        self.folder, self.records = folder, []

    def on_train_start(self, records):
        pass

    def on_progress(self, progress):
        pass

    def on_epoch_end(self, record, save):
        self.records.append(record)
        place = self.folder / str(record["epoch"])
        place.mkdir(parents=True)
        save(place)
