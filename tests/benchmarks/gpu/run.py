"""Measure reidray on a GPU beside bare PyTorch, and check what it computes there.

Usage: python tests/benchmarks/gpu/run.py. It needs neither Ray nor pytest, and ends in under four
minutes on an H200. It prints a row as soon as it is measured, then the table of all rows, and one
JSON line. `--device cpu --tiny` runs the same code on small sizes, to see that it works.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import equality_checks
import input_checks
import synchronisation_checks
import torch
from embedding_rows import Embedding, measure_embedding, save_untrained_model
from made_images import write_jpegs
from measuring import Suite
from nightly_row import measure_nightly_run
from retrieval_rows import RetrievalSizes, measure_evaluation, measure_reranking, measure_top_k
from training_rows import Training, measure_training
from two_processes import check_two_processes

CPU = torch.device("cpu")
LIMIT_SECONDS = 235
QUERIES, GALLERY = 2248, 19679
"""Images of the nightly run."""


def run(suite, device, *, tiny=False, processes=True):
    """Run all checks and measurements.

    Args:
        suite: collects the results.
        device: device to measure.
        tiny: whether to run on small sizes, whose figures mean nothing.
        processes: whether to measure what starts processes: the nightly run, and two trainings.
    """
    with tempfile.TemporaryDirectory() as folder:
        _check_equality(suite, device, Path(folder))
        _check_waiting(suite, device, Path(folder))
        if device.type == "cuda":
            _measure_retrieval(suite, device, (8, 8, None), top_k_limit=2, tiny=tiny)
        _measure_training(suite, device, tiny=tiny)
        _measure_inference(suite, device, Path(folder), tiny=tiny, processes=processes)
        _measure_retrieval(suite, CPU, (1.25, 1.3, 3), top_k_limit=1.3, tiny=tiny)
        if processes:
            suite.check("two processes", 20, lambda: check_two_processes(device))


def _check_equality(suite, device, folder):
    suite.check("evaluate as on the CPU", 5, lambda: equality_checks.check_evaluate(device))
    suite.check("top_k as on the CPU", 5, lambda: equality_checks.check_top_k(device))
    suite.check("rerank as on the CPU", 5, lambda: equality_checks.check_rerank(device))
    suite.check("augmentation as on the CPU", 5, lambda: equality_checks.check_augmentation(device))
    suite.check("batches as on the CPU", 5, lambda: input_checks.check_input(device))
    suite.check("losses as on the CPU", 5, lambda: equality_checks.check_losses(device))
    suite.check("resumed training", 10, lambda: equality_checks.check_resumed_training(device))
    model = save_untrained_model(folder / "small model", "resnet_tiny", (64, 32))
    suite.check(
        "embeddings in any order", 5, lambda: equality_checks.check_embedding_order(model, device)
    )
    suite.check(
        "embeddings in both precisions", 5, lambda: equality_checks.check_precisions(model, device)
    )


def _check_waiting(suite, device, folder):
    model = save_untrained_model(folder / "other model", "resnet_tiny", (64, 32))
    suite.check(
        "re-ID steps do not wait", 10, lambda: synchronisation_checks.check_reid_steps(device)
    )
    suite.check(
        "multi-task steps do not wait",
        10,
        lambda: synchronisation_checks.check_multitask_steps(device),
    )
    suite.check(
        "augmentation does not wait", 5, lambda: synchronisation_checks.check_augmentation(device)
    )
    suite.check(
        "the embedding loop does not wait",
        5,
        lambda: synchronisation_checks.check_embedding_loop(model, device),
    )


def _measure_retrieval(suite, device, evaluate_limits, *, top_k_limit, tiny):
    sizes = RetrievalSizes(60, 300, 20, 64, 20, 2000, 32, 10) if tiny else RetrievalSizes()
    suite.measure(
        f"evaluate on {device.type}",
        15,
        lambda: measure_evaluation(sizes, device, evaluate_limits),
    )
    suite.measure(f"top_k on {device.type}", 15, lambda: measure_top_k(sizes, device, top_k_limit))
    if device.type == "cuda":
        suite.measure("rerank", 10, lambda: measure_reranking(sizes, device))


def _measure_training(suite, device, *, tiny):
    if tiny:
        trainings = [
            Training(
                backbone="resnet_tiny",
                size=(32, 16),
                batch_size=8,
                people=8,
                images_of_each=4,
                bare_steps=2,
            )
        ]
    else:
        trainings = [
            Training(backbone="resnet50", size=(256, 128), batch_size=64, least=0.95),
            Training(backbone="resnet50", size=(256, 128), batch_size=256, least=0.95),
            Training(backbone="resnet_small", size=(128, 64), batch_size=128, least=0.85),
        ]
    for training in trainings:
        name = f"train {training.backbone}, batch {training.batch_size}"
        suite.measure(name, 30, lambda training=training: measure_training(training, device))


def _measure_inference(suite, device, folder, *, tiny, processes):
    queries, gallery = (8, 40) if tiny else (QUERIES, GALLERY)
    write_jpegs(folder / "queries", queries)
    write_jpegs(folder / "gallery", gallery)
    embeddings = (
        Embedding(backbone="resnet_small", size=(128, 64), count=120_000, most_wanted=60_000),
        Embedding(backbone="resnet50", size=(256, 128), count=60_000, least=0.9),
    )
    if tiny:
        embeddings = (
            Embedding(
                backbone="resnet_tiny",
                size=(32, 16),
                count=256,
                most_wanted=60_000,
                bare_batches=(4, 16),
                bare_steps=2,
            ),
        )
    for embedding in embeddings:
        model_folder = folder / embedding.backbone
        model = save_untrained_model(model_folder, embedding.backbone, embedding.size)
        if processes and embedding is embeddings[0]:
            suite.measure(
                "nightly run",
                20,
                lambda model_folder=model_folder: measure_nightly_run(
                    model_folder,
                    folder / "queries",
                    folder / "gallery",
                    folder / "scores",
                    seconds_allowed=90,
                    use_gpu=device.type == "cuda",
                ),
            )
        suite.measure(
            f"embed {embedding.backbone}",
            20,
            lambda embedding=embedding, model=model: measure_embedding(
                embedding, model, folder / "gallery", device
            ),
        )


def describe_machine(device):
    """Return the facts of the machine that figures depend on."""
    facts = {"torch": torch.__version__, "cores": len(os.sched_getaffinity(0))}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": name, **facts}


def main():
    """Run from the command line; the exit status is 1 where anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ... or cpu")
    parser.add_argument("--tiny", action="store_true", help="run on small sizes")
    parser.add_argument("--no-processes", action="store_true", help="leave out what starts some")
    parser.add_argument("--seconds", type=float, default=LIMIT_SECONDS, help="limit of time")
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("PyTorch finds no GPU: `--device cpu --tiny` runs the same code on a CPU")
    device = torch.device(options.device)
    facts = describe_machine(device)
    print(facts)
    suite = Suite(options.seconds)
    try:
        run(suite, device, tiny=options.tiny, processes=not options.no_processes)
    finally:
        suite.print_summary(facts | {"tiny": options.tiny})
    sys.exit(bool(suite.failed))


if __name__ == "__main__":
    main()
