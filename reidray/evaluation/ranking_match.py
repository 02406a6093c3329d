"""Bring a ranking and its truth together: choose how both are read, and pair their names."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reidray.config.scoring import ProtocolName
from reidray.data.reading.file_names import parse_crop_name
from reidray.errors import UserError
from reidray.evaluation.ground_truth import RankingGroundTruth, ranking_ground_truth
from reidray.evaluation.name_matching import NamePairs, nothing_in_common, pair_names
from reidray.evaluation.ranking_parser import PLAIN, ParseCandidate
from reidray.scoring.ranking_file import collect_rows


@dataclass(frozen=True)
class MatchedRanking:
    """A ranking in the names of its truth.

    Attributes:
        ranking: query name to gallery names, the best first.
        truth: what is right.
        form: how a line of the ranking was read.
        truth_form: likewise of the truth; None where file names are the truth.
        differences: how many names differ in what from those of the truth.
        unknown_queries: queries of the ranking that the truth does not have.
        unknown_names: ranked names that the truth does not have.
        never_ranked: gallery names of the truth that are in no line.
        missing: queries of the truth without a line.
        gallery: how many images the gallery has; None where a truth file does not say it.
    """

    ranking: Mapping[str, Sequence[str]]
    truth: RankingGroundTruth
    form: str
    truth_form: str | None
    differences: Mapping[str, int]
    unknown_queries: tuple[str, ...]
    unknown_names: tuple[str, ...]
    never_ranked: tuple[str, ...]
    missing: tuple[str, ...]
    gallery: int | None = None

    @property
    def longest(self) -> int:
        """Return the number of names of the longest line."""
        return max(map(len, self.ranking.values()), default=0)

    def figures(self) -> dict[str, Any]:
        """Return how it was read and how much does not match, for a JSON line."""
        return {
            "ranking_form": self.form,
            **({} if self.truth_form is None else {"truth_form": self.truth_form}),
            "names_differ_in": dict(self.differences),
            "unknown_queries": len(self.unknown_queries),
            "unknown_names": len(self.unknown_names),
            "never_ranked": len(self.never_ranked),
            "longest_line": self.longest,
            **({} if self.gallery is None else {"gallery": self.gallery}),
        }

    def notes(self) -> list[str]:
        """Return a line for each thing that does not match."""
        kinds = (
            ("queries of the truth without a line", self.missing),
            ("queries that the truth does not have, left out", self.unknown_queries),
            ("ranked names that the truth does not have, taken for wrong", self.unknown_names),
            ("gallery names of the truth that are never ranked", self.never_ranked),
        )
        lines = [
            f"{kind}: {len(names)} (the first is {names[0]!r})" for kind, names in kinds if names
        ]
        lines += [
            f"names of ranking and truth that differ in {what}: {count}"
            for what, count in self.differences.items()
        ]
        if not self.longest:
            lines.append("no line names a gallery image: every query counts 0")
        elif self.gallery is not None and self.longest < self.gallery:
            lines.append(
                f"the longest line names {self.longest} of {self.gallery} gallery images, and a "
                "match beyond its end counts as missed: for the mAP of the whole ranking, which "
                f"that of the model or its features is, score with `top_k={self.gallery}`"
            )
        return [f"the ranking was read as `{self.form}`", *lines]


@dataclass(frozen=True)
class _Reading:
    """A reading of a ranking, and its names as the truth has them."""

    form: ParseCandidate
    queries: NamePairs
    names: NamePairs

    @property
    def fit(self) -> tuple[int, int]:
        """Count the names that the truth knows, then how few it does not; more is better.

        The first is 0 where it knows no query or no gallery name.
        """
        queries, names = len(self.queries.known_as), len(self.names.known_as)
        common = queries + names if queries and names else 0
        return common, names - len(_ranked(self.form))


def match_truth(
    file: str, forms: Sequence[ParseCandidate], truth_file: str, truths: Sequence[ParseCandidate]
) -> MatchedRanking:
    """A ranking against a truth file, both read so that they have most names in common.

    Args:
        file: the ranking's name.
        forms: its readings.
        truth_file: the truth's name.
        truths: its readings.

    Raises:
        UserError: they have no query or no gallery name in common, a name could be one of two, or
            the ranking has something twice or in no order.
    """
    best: tuple[_Reading, RankingGroundTruth, ParseCandidate] | None = None
    for truth_form in truths:
        truth = ranking_ground_truth(truth_form)
        right = frozenset().union(*truth.correct.values())
        found = _best_reading(forms, truth.correct, right)
        if best is None or found.fit > best[0].fit:
            best = found, truth, truth_form
    assert best is not None
    reading, truth, truth_form = best
    right = frozenset().union(*truth.correct.values())
    return _matched(reading, truth, file, truth_file, tuple(truth.correct), right, truth_form.form)


def match_gallery(
    file: str,
    forms: Sequence[ParseCandidate],
    gallery: Collection[str],
    folder: str,
    protocol: ProtocolName | None,
) -> MatchedRanking:
    """A ranking against the file names of its gallery.

    Args:
        file: the ranking's name.
        forms: its readings.
        gallery: the names of all gallery images.
        folder: where they are.
        protocol: what counts as found; by default that of `default_protocol`.

    Raises:
        UserError: they have no name in common, the names tell no truth, or the ranking has
            something twice or in no order.
    """
    readings = []
    for form in forms:
        told = [row.query for row in form.rows if parse_crop_name(row.query)]
        queries = NamePairs({query: query for query in told}, {})
        readings.append(_Reading(form, queries, pair_names(_ranked(form), gallery)))
    reading = max(readings, key=lambda reading: reading.fit)
    asked = [row.query for row in reading.form.rows]
    if not asked:
        raise UserError(f"{file}: is empty, expected lines of a ranking, `{PLAIN}`")
    if not reading.names.known_as and _ranked(reading.form):
        raise nothing_in_common("name", file, _ranked(reading.form), folder, gallery)
    from reidray.evaluation.ground_truth_names import ground_truth_from_names  # which loads PyTorch

    truth = ground_truth_from_names(asked, gallery, protocol)
    matched = _matched(reading, truth, file, folder, asked, gallery, None)
    return replace(matched, gallery=len(gallery))


def _best_reading(
    forms: Sequence[ParseCandidate], queries: Collection[str], names: Collection[str]
) -> _Reading:
    readings = [
        _Reading(
            form,
            pair_names([row.query for row in form.rows], queries),
            pair_names(_ranked(form), names),
        )
        for form in forms
    ]
    return max(readings, key=lambda reading: reading.fit)


def _matched(
    reading: _Reading,
    truth: RankingGroundTruth,
    file: str,
    other: str,
    queries: Collection[str],
    names: Collection[str],
    truth_form: str | None,
) -> MatchedRanking:
    form, ranked = reading.form, _ranked(reading.form)
    rows = collect_rows(form.rows, file)
    form.check_scores(file)
    for what, pairs, mine, known in (
        ("query", reading.queries, rows, queries),
        ("gallery name", reading.names, ranked, names),
    ):
        pairs.check(file, other)
        if not pairs.known_as and (ranked or what == "query"):
            raise nothing_in_common(what, file, mine, other, known)
    known_as = reading.names.known_as
    ranking = {
        query: tuple(known_as.get(name, name) for name in rows[asked])
        for asked, query in reading.queries.known_as.items()
    }
    differences: dict[str, int] = {}
    for pairs in (reading.queries, reading.names):
        for what, count in pairs.differences.items():
            differences[what] = differences.get(what, 0) + count
    return MatchedRanking(
        ranking=ranking,
        truth=truth,
        form=form.form,
        truth_form=truth_form,
        differences=differences,
        unknown_queries=tuple(query for query in rows if query not in reading.queries.known_as),
        unknown_names=tuple(sorted(name for name in ranked if name not in known_as)),
        never_ranked=tuple(sorted(set(names) - set(known_as.values()))),
        missing=tuple(query for query in truth.correct if query not in ranking),
    )


def _ranked(form: ParseCandidate) -> set[str]:
    """All gallery names of a ranking."""
    return {name for row in form.rows for name in row.names}
