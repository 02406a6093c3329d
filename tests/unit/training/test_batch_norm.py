"""Test when and how batch normalisation is computed over the batches of all workers."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from reidray.config import BatchConfig, TrainMultitaskConfig, TrainReidConfig
from reidray.errors import UserError
from reidray.models import build_model
from reidray.training.distributed_context import synchronize_batch_norm
from reidray.training.execution.resources import Resources, check_gpu_settings, syncs_batch_norm

GPU, CPU = Resources(use_gpu=True, cpus=4), Resources(use_gpu=False, cpus=4)
REID = TrainReidConfig(data="-", batch=BatchConfig(people=16, crops=4))
PETS = TrainMultitaskConfig(data="-", task="pets", batch_size=64)


@pytest.mark.parametrize("config", [REID, PETS])
def test_workers_share_statistics_where_each_has_few_images_on_gpus(config):
    shared = {
        workers: syncs_batch_norm(replace(config, num_workers=workers), GPU)
        for workers in (1, 2, 4, 8)
    }
    assert shared == {1: False, 2: False, 4: False, 8: True}
    assert not syncs_batch_norm(replace(config, num_workers=8), CPU)
    assert not syncs_batch_norm(replace(config, num_workers=8, sync_batchnorm="no"), GPU)
    assert syncs_batch_norm(replace(config, num_workers=2, sync_batchnorm="yes"), GPU)


def test_shared_statistics_are_refused_on_cpus():
    with pytest.raises(UserError, match="`sync_batchnorm=yes` needs GPUs"):
        check_gpu_settings(replace(REID, sync_batchnorm="yes"), CPU)
    with pytest.raises(ValueError, match="`sync_batchnorm` yes needs GPUs and `use_gpu` is no"):
        replace(REID, sync_batchnorm="yes", use_gpu="no")


@pytest.mark.parametrize("backbone", ["resnet_tiny", "mobilenetv3_small_050"])
def test_a_network_with_shared_statistics_keeps_its_weights_and_outputs(backbone):
    torch.manual_seed(0)
    network = build_model("baseline", backbone=backbone, num_people=3, height=32, width=32)
    plain = build_model("baseline", backbone=backbone, num_people=3, height=32, width=32)
    plain.load_state_dict(network.state_dict())
    before = dict(network.named_parameters())
    synchronize_batch_norm(network)
    norms = [each for each in network.modules() if isinstance(each, nn.SyncBatchNorm)]
    assert len(norms) > 5
    after = dict(network.named_parameters())
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert list(network.state_dict()) == list(plain.state_dict())
    images = torch.rand(4, 3, 32, 32) * 255
    # A process alone normalises by its own batch, on CPUs too.
    assert torch.equal(network(images).identity, plain(images).identity)
    plain.load_state_dict(network.state_dict())
    assert torch.equal(network.eval()(images).embedding, plain.eval()(images).embedding)
