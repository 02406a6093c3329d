import re
import time
from dataclasses import replace

import pytest
import torch
from support.line_task import LineTask, build_line_network
from support.line_task import trainer_config as line_config
from support.synthetic_people import CONFIG, build_network, build_task, build_unseeded_network

from reidray.config import OptimizerConfig
from reidray.errors import UserError
from reidray.training.checkpoint import read_best_weights, read_trainer_state
from reidray.training.distributed_context import DistributedContext
from reidray.training.loop import TrainerConfig, fit
from reidray.training.steps.optimizers import build_optimizer
from reidray.training.tasks.reid.task import ReidTask
from reidray.training.time_budget import TimeLimit


class Recorder:
    """Keep the records and the checkpoints of each epoch."""

    def __init__(self, folder=None):
        self.records, self.folder, self.images = [], folder, {}

    def on_progress(self, progress):
        assert 0 <= progress.done <= 1
        assert 0 <= progress.input_wait < 1
        self.images[progress.epoch] = progress.images

    def on_train_start(self, records):
        self.begun_after = list(records)

    def on_epoch_end(self, record, save):
        self.records.append(record)
        if self.folder:
            target = self.folder / str(record["epoch"])
            target.mkdir()
            save(target)


def trainer_config(epochs=3, **settings):
    return TrainerConfig(
        seed=0,
        epochs=epochs,
        optimizer=OptimizerConfig(learning_rate=0.003),
        validation=settings.pop("validation", CONFIG.validation),
        **settings,
    )


def test_training_learns_and_keeps_the_best_epoch(tmp_path):
    recorder = Recorder(tmp_path)
    state = fit(build_task(), build_network(), trainer_config(6), recorder)
    assert recorder.records[-1]["loss"] < recorder.records[0]["loss"]
    assert recorder.images == dict.fromkeys(range(1, 7), 48)  # the last progress of each epoch
    best = max(recorder.records, key=lambda record: record["mean_ap"])
    assert best["mean_ap"] > 0.6
    assert state.trainer_state.best_epoch == best["epoch"]
    saved, weights = read_trainer_state(tmp_path / "6"), read_best_weights(tmp_path / "6")
    assert saved.finished
    assert torch.equal(weights["identity.weight"], state.best_weights["identity.weight"])


def test_same_seed_gives_the_same_weights():
    first, second = (
        fit(build_task(), build_network(), trainer_config(2), Recorder()).network for _ in "ab"
    )
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_resumed_training_ends_as_one_that_never_stopped(tmp_path):
    whole = fit(build_task(), build_network(), trainer_config(4), Recorder(tmp_path)).network
    torch.manual_seed(99)
    recorder = Recorder()
    resumed = fit(
        build_task(),
        build_unseeded_network(),
        trainer_config(4),
        recorder,
        checkpoint=tmp_path / "2",
    ).network
    assert [record["epoch"] for record in recorder.begun_after] == [1, 2]
    assert [record["epoch"] for record in recorder.records] == [3, 4]
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    fit(build_task(), build_network(), trainer_config(1), Recorder(tmp_path), settings={"seed": 1})
    with pytest.raises(UserError, match="seed = 1, not 2"):
        fit(
            build_task(),
            build_network(),
            trainer_config(1),
            Recorder(),
            settings={"seed": 2},
            checkpoint=tmp_path / "1",
        )


def test_training_stops_when_patience_ends():
    recorder = Recorder()
    validation = replace(CONFIG.validation, patience=2)
    frozen = trainer_config(50, validation=validation)
    frozen = replace(frozen, optimizer=OptimizerConfig(learning_rate=1e-12))
    state = fit(build_task(), build_network(), frozen, recorder)
    assert state.trainer_state.finished
    assert len(recorder.records) < 10


def limit(seconds, **settings):
    return TimeLimit(started=time.time(), seconds=seconds, **settings)


def test_training_ends_by_its_limit_with_the_learning_rate_at_its_end():
    start = time.time()
    recorder = Recorder()
    fit(build_task(), build_network(), trainer_config(100_000, limit=limit(2.5)), recorder)
    assert time.time() - start < 4.5
    assert "mean_ap" in recorder.records[-1]
    assert recorder.records[-1]["learning_rate"] < 0.0003


def test_a_first_validation_and_what_follows_fit_into_the_limit():
    """The budget estimates a slow validation, and a slow evaluation, by their images."""

    class Slow(ReidTask):
        def losses(self, *arguments):
            time.sleep(0.05 * 8)
            return super().losses(*arguments)

        def validate(self, network):
            time.sleep(0.02 * self.validation_images)
            return super().validate(network)

    task = build_task()
    task.__class__ = Slow
    assert task.validation_images == 24
    asked = limit(12, workers_started=time.time() - 4, wrap_up_share=0.25, images_after_training=48)
    recorder = Recorder()
    fit(task, build_network(), trainer_config(100_000, limit=asked), recorder)
    validating, report = 0.02 * 48, 8.0
    assert time.time() < asked.end - validating - 0.9 * report
    assert recorder.records[-1]["step"] >= 1


def test_a_shortened_epoch_records_its_share(tmp_path):
    class Slow(ReidTask):
        def losses(self, *arguments):
            time.sleep(0.5)
            return super().losses(*arguments)

    task, fresh = build_task(), build_network()
    task.__class__ = Slow
    build_optimizer(OptimizerConfig(), fresh)  # slow the first time
    state = fit(task, fresh, trainer_config(30, limit=limit(2.5)), Recorder(tmp_path))
    record = state.trainer_state.records[-1]
    assert record["epoch"] == 1
    assert record["epoch_share"] == record["step"] / task.steps_per_epoch
    assert 0 < record["epoch_share"] < 1
    assert state.trainer_state.best["epoch_share"] == record["epoch_share"]
    assert read_trainer_state(tmp_path / "1").best["step"] == record["step"]


@pytest.mark.parametrize("started", [60, 3.5])
def test_a_limit_that_leaves_no_time_for_a_step_trains_nothing(started):
    recorder = Recorder()
    late = replace(limit(started), started=time.time() - started)
    with pytest.raises(UserError, match=r"starting took \d+ s") as caught:
        fit(build_task(), build_network(), trainer_config(3, limit=late), recorder)
    assert recorder.records == []
    told = int(re.search(r"took (\d+) s", str(caught.value))[1])
    assert started - 0.5 <= told <= started + 5  # the network is built in the meantime
    enough = float(re.search(r"give `max_minutes=([\d.]+)` or more", str(caught.value))[1])
    assert started / 60 < enough <= (started + 60) / 60 + 0.5


def test_a_training_resumed_without_time_for_a_step_ends_with_what_it_has(tmp_path):
    fit(build_task(), build_network(), trainer_config(4), Recorder(tmp_path))
    recorder = Recorder()
    late = replace(limit(5), started=time.time() - 60)
    state = fit(
        build_task(),
        build_unseeded_network(),
        trainer_config(4, limit=late),
        recorder,
        checkpoint=tmp_path / "2",
    )
    assert [record["epoch"] for record in recorder.begun_after] == [1]
    assert [record["epoch"] for record in recorder.records] == [2]
    assert state.trainer_state.finished
    assert state.trainer_state.best_epoch in (1, 2)


def test_a_loss_that_is_not_finite_stops_with_advice():
    broken = build_network()
    with torch.no_grad():
        broken.dense[0].weight.fill_(float("nan"))
    with pytest.raises(UserError, match="learning_rate"):
        fit(build_task(), broken, trainer_config(1), Recorder())


@pytest.mark.parametrize(
    ("weight", "complaint"),
    [(float("nan"), "weights dense.0.weight are not finite after step"), (1e38, "embeddings")],
)
def test_weights_that_are_not_finite_are_refused(weight, complaint, tmp_path):
    task, fresh = build_task(), build_network()
    steps_left = list(range(task.steps_per_epoch))

    class LastStepBreaks(ReidTask):
        def batch_size(self, batch):
            if steps_left.pop() == 0:
                with torch.no_grad():
                    fresh.dense[0].weight.fill_(weight)
            return super().batch_size(batch)

    task.__class__ = LastStepBreaks
    with pytest.raises(UserError, match=f"{complaint}.*lower `optimizer.learning_rate`"):
        fit(task, fresh, trainer_config(1), Recorder(tmp_path))
    assert not list(tmp_path.iterdir())


def test_a_metric_that_is_not_finite_is_never_the_best():
    nan, infinity = float("nan"), float("inf")
    figures = [nan, infinity, 0.2, nan, infinity, -infinity, 0.1]

    class UndefinedMetricTask(LineTask):
        def validate(self, network):
            return super().validate(network) | {"mean_ap": figures.pop(0)}

    config = line_config(len(figures))
    state = fit(UndefinedMetricTask(), build_line_network(), config, Recorder())
    assert (state.trainer_state.best_epoch, state.trainer_state.best["mean_ap"]) == (3, 0.2)


def test_a_training_without_a_finite_metric_is_refused_and_so_is_its_resume(tmp_path):
    class Undefined(LineTask):
        def validate(self, network):
            return super().validate(network) | {"mean_ap": float("nan")}

    for checkpoint in (None, tmp_path / "2"):
        asked = Undefined(), build_line_network(), line_config(2), Recorder(tmp_path)
        with pytest.raises(UserError, match="no validation gave a finite mean_ap"):
            fit(*asked, checkpoint=checkpoint)


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_share_the_batches_of_one_worker(workers):
    whole = list(build_task().batches(1))
    parts = [
        list(build_task(context=DistributedContext(rank, workers)).batches(1))
        for rank in range(workers)
    ]
    assert {len(part) for part in parts} == {len(whole)}
    for batch, *shares in zip(whole, *parts, strict=True):
        crops = torch.cat([share.crops for share in shares])
        people = torch.cat([share.person_indices for share in shares])
        # A person's crops stay in their order; the people of a batch are dealt to the workers.
        key, expected = people.argsort(stable=True), batch.person_indices.argsort(stable=True)
        assert torch.equal(people[key], batch.person_indices[expected])
        assert torch.equal(crops[key], batch.crops[expected])
