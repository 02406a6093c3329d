"""Measure evaluation, search and re-ranking, beside the matrix products that they need."""

from dataclasses import dataclass

import torch
from measuring import Reach, Row, least_seconds

from reidray import evaluate, top_k
from reidray.retrieval import rerank

DISTRACTOR_SHARE = 0.176
"""Share of Market-1501's gallery that shows nobody of the queries."""


@dataclass(frozen=True)
class RetrievalSizes:
    """Hold the sizes of the problems, by default Market-1501's and a million of gallery images."""

    queries: int = 3368
    gallery: int = 15913
    people: int = 750
    values: int = 2048
    few_queries: int = 1000
    million: int = 1_000_000
    few_values: int = 512
    k: int = 50


@dataclass(frozen=True)
class Problem:
    """Hold the features and the labels of queries and a gallery."""

    query: torch.Tensor
    gallery: torch.Tensor
    labels: tuple

    def to(self, device):
        """Return the problem with its features on a device."""
        return Problem(self.query.to(device), self.gallery.to(device), self.labels)

    def evaluate(self, **options):
        """Return the ranking metrics."""
        return evaluate(self.query, self.gallery, *self.labels, **options)


def people_problem(sizes, noise, device):
    """Return people as points of 64 dimensions, seen through noise in many more."""
    random = torch.Generator().manual_seed(0)
    people = sizes.people
    centres = torch.randn(people + 1, 64, generator=random)
    lift = torch.randn(64, sizes.values, generator=random).to(device)
    counts = sizes.queries, sizes.gallery
    person_ids = [torch.randint(1, people + 1, (count,), generator=random) for count in counts]
    person_ids[1][: int(DISTRACTOR_SHARE * sizes.gallery)] = 0
    features = []
    for ids in person_ids:
        shown = (ids > 0)[:, None]
        spread = torch.where(shown, noise, 1.0)
        points = centres[ids] * shown + torch.randn(len(ids), 64, generator=random) * spread
        features.append(torch.nn.functional.normalize((points.to(device) @ lift).relu()))
    cameras = [torch.randint(0, 6, (count,), generator=random).numpy() for count in counts]
    return Problem(*features, (*(ids.numpy() for ids in person_ids), *cameras))


def random_problem(sizes, device):
    """Return independent features: all distances are about the same, the hardest to tell apart."""
    labels = people_problem(sizes, 1.0, torch.device("cpu")).labels
    random = torch.Generator(device).manual_seed(1)
    sides = [
        torch.nn.functional.normalize(
            torch.randn(count, sizes.values, generator=random, device=device)
        )
        for count in (sizes.queries, sizes.gallery)
    ]
    return Problem(*sides, labels)


def measure_evaluation(sizes, device, limits):
    """Yield rows of `evaluate` beside its product.

    Args:
        sizes: sizes of the problem.
        device: device of the features.
        limits: the largest ratio for features of mAP 1.0, for those of mAP 0.9 and for random
            ones; None where nothing was promised.
    """
    problems = (
        ("separable", lambda: people_problem(sizes, 0.5, device)),
        ("made", lambda: people_problem(sizes, 0.9, device)),
        ("random", lambda: random_problem(sizes, device)),
    )
    for (name, build), limit in zip(problems, limits, strict=True):
        problem = build()
        product, seconds = least_seconds(
            device,
            lambda problem=problem: problem.query @ problem.gallery.T,
            problem.evaluate,
            runs=_runs(device),
        )
        yield Row(
            name=f"evaluate on {device.type}, {name} features",
            unit="s",
            ours=seconds,
            bare=product,
            reach=None if limit is None else Reach("at most", limit),
            details={"mAP": problem.evaluate().mean_ap},
        )


def measure_top_k(sizes, device, limit):
    """Return the row of `top_k` in a million random images, beside product and topk in blocks."""
    random = torch.Generator(device).manual_seed(2)
    query, gallery = (
        torch.randn(count, sizes.few_values, generator=random, device=device)
        for count in (sizes.few_queries, sizes.million)
    )
    block = sizes.million // 10

    def bare():
        """Return the nearest by inner product of each block, and merge them."""
        found = [(query @ part.T).topk(sizes.k) for part in gallery.split(block)]
        return torch.cat([values for values, _ in found], dim=1).topk(sizes.k)

    def product():
        for part in gallery.split(block):
            query @ part.T

    alone, beside, seconds = least_seconds(
        device, product, bare, lambda: top_k(query, gallery, sizes.k), runs=_runs(device)
    )
    on_gpu = device.type == "cuda"
    return Row(
        name=f"top_k {sizes.k} of {sizes.million:,} on {device.type}",
        unit="s",
        ours=seconds,
        bare=beside if on_gpu else alone,  # a CPU's topk is slower than its product
        reach=Reach("at most", limit),
        details={"product s": alone, "product and topk s": beside},
    )


def _runs(device):
    return 5 if device.type == "cuda" else 2


def measure_reranking(sizes, device):
    """Return the row of `rerank`, beside the product of the gallery with itself."""
    problem = people_problem(sizes, 0.9, device)
    product, seconds = least_seconds(
        device,
        lambda: problem.gallery @ problem.gallery.T,
        lambda: rerank(problem.query, problem.gallery, sizes.k),
        runs=2,
    )
    return Row(
        name=f"rerank on {device.type}",
        unit="s",
        ours=seconds,
        bare=product,
        reach=Reach("at most", 0.5, "s"),
    )
