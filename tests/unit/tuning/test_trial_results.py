"""The results of a sweep, read from the files that Ray Tune leaves. No Ray runs here."""

import csv
import json
import logging
from dataclasses import replace
from types import SimpleNamespace

import pyarrow.fs
import pytest
import torch
from ray.tune import Checkpoint, Result
from support.training_folders import reid_experiment, write_person_folders

from reidray.config import OptimizerConfig, ReidValidationConfig
from reidray.storage.location import Location
from reidray.training.checkpoint import TrainerState, TrainingSnapshot
from reidray.training.execution.resources import Resources
from reidray.training.runs.run_directory import RunDirectory
from reidray.training.steps.optimizers import build_optimizer
from reidray.tuning.populations import split_results
from reidray.tuning.search_space import SearchParameter
from reidray.tuning.sweep_files import describe_best, write_sweep_files
from reidray.tuning.sweep_progress import NUMBERS_FILE, RESULTS_FILE, SweepProgress
from reidray.tuning.trial import TrialContext
from reidray.tuning.trial_results import read_trial_results
from reidray.tuning.trial_table import best_result, tied_results

RATE = "optimizer.learning_rate"
SPACE = (SearchParameter(RATE, "loguniform", (1e-4, 1e-1)),)
VALIDATION = ReidValidationConfig()


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    data = write_person_folders(tmp_path_factory.mktemp("people") / "data", 12)
    return reid_experiment(data, "--epochs", "3", "--network.height", "32", "--network.width", "16")


class Sweep:
    """Write a sweep's folder as Ray Tune leaves it, and return results as Ray Tune does."""

    def __init__(self, folder, experiment, *, is_population):
        self.folder = folder
        self.context = TrialContext(
            experiment, None, Resources(False, 1), Location(str(folder)), is_population
        )
        self.seconds = 0.0
        self.numbers = {}
        self.results = {}

    def epoch(self, number, metric, **more):
        self.seconds += 0.25
        record = {"epoch": number, "step": number, "seconds": self.seconds, **more}
        return record if metric is None else record | {"mean_ap": metric}

    def report(self, name, record, rate, lineage, *, checkpoint=True):
        """A trial tells of an epoch, and keeps the checkpoint of these epochs."""
        folder_of_trial = self.folder / name
        folder_of_trial.mkdir(exist_ok=True)
        record |= {"trial": name}
        report = f"checkpoint_{len(list(folder_of_trial.glob('checkpoint_*'))):06d}"
        if checkpoint:
            self.save(folder_of_trial / report, [*lineage, record])
        line = record | {"config": {RATE: rate}, "checkpoint_dir_name": report}
        self.results.setdefault(name, []).append(line)
        (folder_of_trial / "params.json").write_text(json.dumps({RATE: rate}))
        return [*lineage, record]

    def save(self, folder_of_trial, records):
        folder_of_trial.mkdir()
        network = torch.nn.Linear(2, 2)
        state = TrainingSnapshot(network, build_optimizer(OptimizerConfig(), network), {})
        evaluated = [r for r in records if "mean_ap" in r]
        best = max(evaluated, key=lambda r: r["mean_ap"])
        state.trainer_state = TrainerState(
            epoch=records[-1]["epoch"],
            finished=records[-1]["epoch"] == 3,
            best_epoch=best["epoch"],
            best=best,
            records=records,
        )
        state.best_weights = dict(network.state_dict())
        state.save(folder_of_trial)

    def rows(self, *order, errors=()):
        """The rows, of results that come in this order."""
        (self.folder / NUMBERS_FILE).write_text(json.dumps(self.numbers))
        (self.folder / RESULTS_FILE).write_text(json.dumps(self.results))
        found = [self.result(name, name in errors) for name in order]
        return read_trial_results(found, SPACE, self.context)

    def result(self, name, failed):
        folder_of_trial = self.folder / name
        kept = sorted(folder_of_trial.glob("checkpoint_*"))
        return Result(
            metrics={"done": True},
            checkpoint=None,
            error=RuntimeError("it broke\nthe last line") if failed else None,
            path=str(folder_of_trial),
            best_checkpoints=[(Checkpoint.from_directory(str(each)), {}) for each in kept],
        )


@pytest.fixture
def population(tmp_path, experiment):
    """Return a sweep in which trial 1 copies trial 0 after its first epoch and ties with it."""
    sweep = Sweep(tmp_path, experiment, is_population=True)
    sweep.numbers = {"strong": 0, "weak": 1}
    first = sweep.report("strong", sweep.epoch(1, 0.8), 0.01, [])
    lineage = sweep.report("weak", sweep.epoch(1, 0.1), 0.0001, [])
    sweep.report("weak", sweep.epoch(2, 0.2), 0.0001, lineage)
    lineage = sweep.report("strong", sweep.epoch(2, 0.5), 0.01, first)
    sweep.report("strong", sweep.epoch(3, 0.6), 0.01, lineage)
    lineage = sweep.report("weak", sweep.epoch(2, 0.8), 0.02, first)
    sweep.report("weak", sweep.epoch(3, 0.7), 0.02, lineage)
    return sweep


def test_each_configuration_of_a_population_has_a_result_with_its_own_epochs(population):
    rows = population.rows("weak", "strong")
    assert [(row.name, row.parameters[RATE], row.state) for row in rows] == [
        ("0", 0.01, "finished"),
        ("1", 0.0001, "replaced"),
        ("1.1", 0.02, "finished"),
    ]
    own = [[(epoch["epoch"], epoch["mean_ap"]) for epoch in row.epochs] for row in rows]
    assert own == [
        [(1, 0.8), (2, 0.5), (3, 0.6)],
        [(1, 0.1), (2, 0.2)],
        [(2, 0.8), (3, 0.7)],
    ]
    assert [(row.copied_from, row.copied_epoch) for row in rows] == [
        (None, None),
        (None, None),
        (0, 1),
    ]
    assert [row.best["mean_ap"] for row in rows] == [0.8, 0.2, 0.8]
    assert sum(row.trained_epochs for row in rows) == 7


def test_the_best_result_is_that_of_the_checkpoint_with_the_best_weights(population):
    rows = population.rows("weak", "strong")
    best = best_result(rows[::-1], VALIDATION)
    assert best.name == "0"
    assert [row.name for row in tied_results(best, rows, VALIDATION)] == ["1.1"]
    state = json.loads((best.checkpoint / "state.json").read_text())
    assert state["standing"]["best_epoch"] == best.best["epoch"] == 1


def test_epochs_without_a_checkpoint_are_in_no_result(population):
    population.report("weak", population.epoch(3, 0.99), 0.03, [], checkpoint=False)
    rows = population.rows("strong", "weak")
    assert [row.name for row in rows] == ["0", "1", "1.1"]
    assert best_result(rows, VALIDATION).best["mean_ap"] == 0.8


def test_the_source_of_copied_weights_comes_from_the_checkpoint(population):
    del population.results["strong"][0]
    row = population.rows("strong", "weak")[-1]
    assert (row.name, row.copied_from, row.copied_epoch) == ("1.1", 0, 1)


def test_an_epoch_trained_twice_counts_once():
    results = [
        {"epoch": epoch, "seconds": seconds, "config": {RATE: rate}}
        for epoch, seconds, rate in [(1, 1.0, 0.1), (2, 2.0, 0.1), (2, 3.0, 0.1), (2, 4.0, 0.2)]
    ]
    stretches = split_results(results, (RATE,))
    assert [[r["seconds"] for r in each] for each in stretches] == [[1.0, 3.0], [4.0]]


def write(sweep, rows, output):
    best = best_result(rows, VALIDATION)
    base = sweep.context.experiment.config
    run = RunDirectory.from_uri(str(output))
    output.mkdir()
    made = write_sweep_files(
        run, SPACE, base, base, rows, best, sweep.context.experiment.describe_validation()
    )
    return made, list(csv.DictReader((output / "trials.csv").open()))


def test_the_files_of_a_population_hold_the_source_of_copied_weights(population, tmp_path):
    made, table = write(population, population.rows("weak", "strong"), tmp_path / "out")
    columns = ("trial", "part", "copied_from", "copied_epoch", RATE, "epochs", "mean_ap")
    assert [tuple(row[column] for column in columns) for row in table] == [
        ("0", "0", "", "", "0.01", "3", "0.8"),
        ("1", "0", "", "", "0.0001", "2", "0.2"),
        ("1", "1", "0", "1", "0.02", "2", "0.8"),
    ]
    assert (made["trials"], made["configurations"], made["best_trial"]) == (2, 3, 0)
    assert (made["epochs_spent"], made["epochs_asked"]) == (7, 6)
    assert made["equal_trials"] == ["1.1"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "2 trials under 3 configurations" in page
    assert "trial 0, epoch 1" in page
    assert "Trial 1.1 reaches the same value" in page


@pytest.fixture
def tied(tmp_path, experiment):
    """Return a sweep with three tied trials, a weaker one and a failed one."""
    sweep = Sweep(tmp_path, experiment, is_population=False)
    sweep.numbers = {"d": 0, "c": 1, "b": 2, "a": 3, "e": 4}
    for name, metrics in {"d": [0.5], "c": [1.0, 0.4], "b": [1.0], "a": [0.3, 1.0]}.items():
        lineage = []
        for epoch, metric in enumerate(metrics, start=1):
            rate = (1 + sweep.numbers[name]) / 1000
            lineage = sweep.report(name, sweep.epoch(epoch, metric), rate, lineage)
    (tmp_path / "e").mkdir()
    (tmp_path / "e" / "params.json").write_text(json.dumps({RATE: 0.09}))
    (tmp_path / "never").mkdir()
    return sweep


@pytest.mark.parametrize("order", ["abcde", "edcba", "cebda"])
def test_numbers_are_those_of_the_log_for_any_order_of_trials(tied, order, tmp_path):
    rows = tied.rows(*order, "never", errors=("e",))
    assert [(row.name, row.parameters[RATE]) for row in rows] == [
        ("0", 0.001),
        ("1", 0.002),
        ("2", 0.003),
        ("3", 0.004),
        ("4", 0.09),
    ]
    assert (rows[4].state, rows[4].best, rows[4].error) == ("failed", {}, "the last line")
    made, table = write(tied, rows, tmp_path / "out")
    assert [row["trial"] for row in table] == list("01234")
    assert "part" not in table[0]
    assert (made["best_trial"], made["equal_trials"]) == (1, ["2", "3"])
    assert made["judged_on"] == "6 queries of 3 validation people"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The best is trial 1" in page
    assert "Trials 2, 3 reach the same value" in page
    assert "The validation has 6 queries of 3 validation people." in page


def test_the_line_about_the_best_trial_names_ties_and_the_validation(tied):
    rows = tied.rows(*"abcde")
    line = describe_best(best_result(rows, VALIDATION), rows, VALIDATION, "6 queries of 3 people")
    assert line == (
        "the best is trial 1, with mean_ap 1.000 over 6 queries of 3 people; trials 2, 3 tie with "
        "it, and the sweep takes the first"
    )


def test_a_trial_without_a_finite_metric_is_never_the_best(tied):
    rows = tied.rows(*"abcde")
    rows[1] = replace(rows[1], best={})
    assert best_result(rows, VALIDATION).number == 2
    assert best_result([rows[4]], VALIDATION) is None


def test_nan_metrics_of_a_population_are_skipped(tmp_path, experiment):
    sweep = Sweep(tmp_path, experiment, is_population=True)
    sweep.numbers = {"a": 0}
    lineage = sweep.report("a", sweep.epoch(1, 0.5), 0.01, [])
    sweep.report("a", sweep.epoch(2, float("nan")), 0.01, lineage)
    (row,) = sweep.rows("a")
    assert row.best["mean_ap"] == 0.5
    assert row.trained_epochs == 2


def trial(folder, name, values, copied=None):
    """Return a trial as Ray Tune passes it to callbacks."""
    checkpoint = copied and SimpleNamespace(path=f"{folder}/{copied}/checkpoint_000000")
    storage = SimpleNamespace(
        storage_filesystem=pyarrow.fs.LocalFileSystem(), experiment_fs_path=str(folder)
    )
    return SimpleNamespace(
        trial_id=name, config=values, checkpoint=checkpoint, storage=storage, status="RUNNING"
    )


def test_a_trial_keeps_its_number_when_a_sweep_is_resumed(tmp_path, experiment, caplog):
    caplog.set_level(logging.INFO, "reidray")
    begun = SweepProgress(experiment.config, 4, None)
    names = ["first", "second", "third"]
    for rate, name in enumerate(names):
        begun.on_trial_start(trial=trial(tmp_path, name, {RATE: float(rate)}))
    begun.on_trial_result(trial=trial(tmp_path, "third", {}), result={"epoch": 1, "mean_ap": 0.7})
    resumed = SweepProgress(experiment.config, 4, None)
    resumed.set_state(begun.get_state())
    others = [trial(tmp_path, name, {RATE: 9.0}) for name in ("fourth", "third", "first")]
    for each in others:
        resumed.on_trial_start(trial=each)
    resumed.on_trial_complete(trial=others[1])
    resumed.on_experiment_end(trials=others)
    numbers = json.loads((tmp_path / NUMBERS_FILE).read_text())
    assert numbers == {"first": 0, "second": 1, "third": 2, "fourth": 3}
    assert "trial 2 stopped after epoch 1 with mean_ap 0.700" in caplog.text


def test_a_resumed_sweep_keeps_the_results_of_a_population(tmp_path, experiment):
    """Check the file that replaces Ray Tune's, which loses results of trials that take turns."""
    begun, changing = SweepProgress(experiment.config, 2, None, is_population=True), {RATE: 0.1}
    each = trial(tmp_path, "a", changing)
    begun.on_trial_start(trial=each)
    report = {"epoch": 1, "seconds": 0.5, "config": changing, "checkpoint_dir_name": "c"}
    begun.on_trial_result(trial=each, result=report | {"mean_ap": 0.7})
    changing[RATE] = 0.2
    resumed = SweepProgress(experiment.config, 2, None, is_population=True)
    resumed.set_state(begun.get_state())
    resumed.on_trial_result(trial=each, result=report | {"epoch": 2, "mean_ap": 0.8})
    resumed.on_experiment_end(trials=[each])
    results = json.loads((tmp_path / RESULTS_FILE).read_text())["a"]
    assert [(result["epoch"], result["config"][RATE]) for result in results] == [(1, 0.1), (2, 0.2)]


def test_the_log_has_one_line_for_a_user_error_and_the_traceback_of_a_bug(
    tmp_path, experiment, caplog
):
    log, broken = SweepProgress(experiment.config, 2, None), trial(tmp_path, "a", {RATE: 0.1})
    broken.error_file = str(tmp_path / "error.txt")
    log.on_trial_start(trial=broken)
    traceback = 'Traceback:\n  File "trial.py"\n'
    (tmp_path / "error.txt").write_text(f"{traceback}reidray.errors.UserError: lower the rate\n")
    log.on_trial_error(trial=broken)
    assert caplog.messages[-1] == "trial 0 failed: lower the rate"
    (tmp_path / "error.txt").write_text(f"{traceback}KeyError: 'a'\n")
    log.on_trial_error(trial=broken)
    assert caplog.messages[-1] == f"trial 0 failed: {traceback}KeyError: 'a'\n"


def test_the_log_has_the_metrics_of_the_current_parameters(tmp_path, experiment, caplog):
    caplog.set_level(logging.INFO, "reidray")
    log = SweepProgress(experiment.config, 2, None)
    weak = trial(tmp_path, "weak", {RATE: 0.001})
    log.on_trial_start(trial=trial(tmp_path, "strong", {RATE: 0.1}))
    log.on_trial_start(trial=weak)
    log.on_trial_result(trial=weak, result={"epoch": 1, "mean_ap": 0.9})
    changed = trial(tmp_path, "weak", {RATE: 0.2}, copied="strong")
    log.on_trial_start(trial=changed)
    assert f"trial 1 continues from the weights of trial 0 with {RATE} 0.2" in caplog.text
    log.on_trial_result(trial=changed, result={"epoch": 2, "mean_ap": float("nan")})
    log.on_trial_result(trial=changed, result={"epoch": 3, "mean_ap": 0.4})
    log.on_trial_complete(trial=changed)
    assert f"trial 1 finished after epoch 3 with mean_ap 0.400: {RATE} 0.2" in caplog.text


def test_the_table_of_trials_is_written_while_they_run(tmp_path, experiment):
    folder = tmp_path / "sweep" / "tune"
    folder.mkdir(parents=True)
    progress = SweepProgress(experiment.config, 2, None, is_population=True)
    for name, rate in (("strong", 0.1), ("weak", 0.001)):
        progress.on_trial_start(trial=trial(folder, name, {RATE: rate}))
    for name, rate, epoch, metric in (
        ("strong", 0.1, 1, 0.8),
        ("weak", 0.001, 1, 0.2),
        ("weak", 0.2, 2, 0.7),
    ):
        each = trial(folder, name, {RATE: rate}, copied="strong")
        progress.on_trial_start(trial=each)
        times = {"seconds": 2.0, "time_total_s": 3.0 * epoch}
        result = {"epoch": epoch, "mean_ap": metric, "config": {RATE: rate}, **times}
        progress.on_trial_result(trial=each, result=result)
    progress.on_trial_complete(trial=trial(folder, "strong", {}))
    rows = list(csv.DictReader((tmp_path / "sweep" / "trials.csv").open()))
    columns = ("trial", "part", "copied_from", "copied_epoch", "state", RATE, "epochs", "mean_ap")
    assert [tuple(row[column] for column in columns) for row in rows] == [
        ("0", "0", "", "", "stopped early", "0.1", "1", "0.8"),
        ("1", "0", "", "", "replaced", "0.001", "1", "0.2"),
        ("1", "1", "0", "1", "unfinished", "0.2", "1", "0.7"),
    ]
    assert [row["training_seconds"] for row in rows] == ["3.0", "3.0", "3.0"]
    assert "timestamp" not in rows[0]
