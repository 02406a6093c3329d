import time
from dataclasses import replace

import pytest
import torch
from made_people import CONFIG, fresh_network, made_task, network

from reidray.config import OptimizerConfig
from reidray.errors import UserError
from reidray.training.checkpoint import read_best
from reidray.training.loop import LoopPlan, fit
from reidray.training.place import Place


class Recorder:
    """Keeps the figures and the checkpoints of each epoch."""

    def __init__(self, folder=None):
        self.records, self.folder = [], folder

    def step(self, progress):
        assert 0 <= progress.done < 1

    def begin(self, records):
        self.begun_after = list(records)

    def epoch(self, record, save):
        self.records.append(record)
        if self.folder:
            target = self.folder / str(record["epoch"])
            target.mkdir()
            save(target)


def plan(epochs=3, **settings):
    return LoopPlan(
        seed=0,
        epochs=epochs,
        optimizer=OptimizerConfig(learning_rate=0.003),
        validation=settings.pop("validation", CONFIG.validation),
        **settings,
    )


def test_training_learns_and_keeps_the_best_epoch(tmp_path):
    recorder = Recorder(tmp_path)
    state = fit(made_task(), network(), plan(6), recorder)
    assert recorder.records[-1]["loss"] < recorder.records[0]["loss"]
    best = max(recorder.records, key=lambda record: record["mean_ap"])
    assert best["mean_ap"] > 0.6
    assert state.standing.best_epoch == best["epoch"]
    standing, weights = read_best(tmp_path / "6")
    assert standing.finished
    assert torch.equal(weights["identity.weight"], state.best_weights["identity.weight"])


def test_same_seed_gives_the_same_weights():
    first, second = (fit(made_task(), network(), plan(2), Recorder()).network for _ in "ab")
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_training_resumed_from_a_checkpoint_ends_as_one_that_never_stopped(tmp_path):
    whole = fit(made_task(), network(), plan(4), Recorder(tmp_path)).network
    torch.manual_seed(99)
    recorder = Recorder()
    resumed = fit(
        made_task(), fresh_network(), plan(4), recorder, checkpoint=tmp_path / "2"
    ).network
    assert [record["epoch"] for record in recorder.begun_after] == [1, 2]
    assert [record["epoch"] for record in recorder.records] == [3, 4]
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-6)


def test_a_checkpoint_goes_on_under_no_other_configuration(tmp_path):
    fit(made_task(), network(), plan(1), Recorder(tmp_path), settings={"seed": 1})
    with pytest.raises(UserError, match="seed = 1, not 2"):
        fit(
            made_task(),
            network(),
            plan(1),
            Recorder(),
            settings={"seed": 2},
            checkpoint=tmp_path / "1",
        )


def test_training_stops_when_patience_ends():
    recorder = Recorder()
    validation = replace(CONFIG.validation, patience=2)
    frozen = plan(50, validation=validation)
    frozen = replace(frozen, optimizer=OptimizerConfig(learning_rate=1e-12))
    state = fit(made_task(), network(), frozen, recorder)
    assert state.standing.finished
    assert len(recorder.records) < 10


def test_training_ends_by_its_deadline_with_the_learning_rate_at_its_end():
    start = time.time()
    recorder = Recorder()
    fit(made_task(), network(), plan(100_000, deadline=start + 4), recorder)
    assert time.time() - start < 8
    assert "mean_ap" in recorder.records[-1]
    assert recorder.records[-1]["learning_rate"] < 0.0003


def test_a_loss_that_is_not_finite_stops_with_advice():
    broken = network()
    with torch.no_grad():
        broken.dense[0].weight.fill_(float("nan"))
    with pytest.raises(UserError, match="learning-rate"):
        fit(made_task(), broken, plan(1), Recorder())


@pytest.mark.parametrize("workers", [2, 4])
def test_workers_share_the_batches_that_one_would_have(workers):
    whole = list(made_task().batches(1))
    parts = [list(made_task(place=Place(rank, workers)).batches(1)) for rank in range(workers)]
    assert {len(part) for part in parts} == {len(whole)}
    for batch, *shares in zip(whole, *parts, strict=True):
        crops = torch.cat([share.crops for share in shares])
        people = torch.cat([share.people for share in shares])
        # A person's crops stay in their order; the people of a batch are dealt to the workers.
        key, expected = people.argsort(stable=True), batch.people.argsort(stable=True)
        assert torch.equal(people[key], batch.people[expected])
        assert torch.equal(crops[key], batch.crops[expected])
