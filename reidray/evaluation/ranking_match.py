"""Match a ranking with its ground truth: choose the way to parse both, and pair their names."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from reidray.config.scoring import ProtocolName
from reidray.data.reading.file_names import parse_crop_name
from reidray.errors import UserError
from reidray.evaluation.ground_truth import RankingGroundTruth, ranking_ground_truth
from reidray.evaluation.name_matching import NamePairs, no_common_name_error, pair_names
from reidray.evaluation.ranking_parser import PLAIN, ParseCandidate
from reidray.scoring.ranking_file import collect_rows


@dataclass(frozen=True)
class RankingMatch:
    """Hold a ranking in the names of its ground truth.

    Attributes:
        ranking: query name to gallery names, best first.
        truth: the ground truth.
        form: form in which a line of the ranking was parsed.
        truth_form: form in which a line of the truth was parsed; None where file names are the
            truth.
        differences: number of names that differ from those of the truth, by the difference.
        unknown_queries: queries of the ranking that the truth does not have.
        unknown_names: ranked names that the truth does not have.
        never_ranked: gallery names of the truth that are in no line.
        missing: queries of the truth without a line.
        gallery: number of images of the gallery; None with a truth file.
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

    def metrics(self) -> dict[str, Any]:
        """Return the form of the files and the number of names that do not match, by JSON key."""
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
        """Return lines about the form of the ranking and about names that do not match."""
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
                "match beyond its end counts as missed: to get the mAP that the model or its "
                f"features have, score with --top-k {self.gallery}"
            )
        return [f"the ranking was read as `{self.form}`", *lines]


@dataclass(frozen=True)
class _CandidatePairs:
    """Hold one way to parse a ranking, and the pairs of its names with those of the truth."""

    candidate: ParseCandidate
    queries: NamePairs
    names: NamePairs

    @property
    def fit(self) -> tuple[int, int]:
        """Return the rank of the candidate among the candidates; the largest is the best.

        Returns:
            The number of names that the truth has, and minus the number that it does not have. The
            first number is 0 where the truth has no query or no gallery name.
        """
        queries, names = len(self.queries.counterparts), len(self.names.counterparts)
        common = queries + names if queries and names else 0
        return common, names - len(_ranked(self.candidate))


def match_truth(
    file: str,
    candidates: Sequence[ParseCandidate],
    truth_file: str,
    truths: Sequence[ParseCandidate],
) -> RankingMatch:
    """Match a ranking with a truth file, in the forms with most names in common.

    Args:
        file: name of the ranking file.
        candidates: the ways to parse it.
        truth_file: name of the truth file.
        truths: the ways to parse it.

    Raises:
        UserError: the two have no query or no gallery name in common, a name can be paired in two
            ways, or the ranking has duplicates or unordered scores.
    """
    matches = []
    for truth_candidate in truths:
        truth = ranking_ground_truth(truth_candidate)
        chosen = _best_candidate(candidates, truth.correct, truth.correct_names)
        matches.append((chosen, truth, truth_candidate))
    # Of several with the same fit, `max` returns the first: the form of `write_ranking`.
    chosen, truth, truth_candidate = max(matches, key=lambda match: match[0].fit)
    return _use_names_of_truth(
        chosen,
        truth,
        file=file,
        other=truth_file,
        queries=tuple(truth.correct),
        names=truth.correct_names,
        truth_form=truth_candidate.form,
    )


def match_gallery(
    file: str,
    candidates: Sequence[ParseCandidate],
    gallery: Collection[str],
    folder: str,
    protocol: ProtocolName | None,
) -> RankingMatch:
    """Match a ranking with the file names of its gallery.

    Args:
        file: name of the ranking file.
        candidates: the ways to parse it.
        gallery: names of all gallery images.
        folder: folder of the gallery.
        protocol: the protocol; by default that of `default_protocol`.

    Raises:
        UserError: the two have no name in common, the names have no person and camera, or the
            ranking has duplicates or unordered scores.
    """
    paired = []
    for candidate in candidates:
        named = [row.query for row in candidate.rows if parse_crop_name(row.query)]
        queries = NamePairs({query: query for query in named}, {})
        paired.append(_CandidatePairs(candidate, queries, pair_names(_ranked(candidate), gallery)))
    chosen = max(paired, key=lambda pairs: pairs.fit)
    query_names = [row.query for row in chosen.candidate.rows]
    if not query_names:
        raise UserError(f"{file}: is empty, expected lines of a ranking, `{PLAIN}`")
    if not chosen.names.counterparts and _ranked(chosen.candidate):
        raise no_common_name_error("name", file, _ranked(chosen.candidate), folder, gallery)
    from reidray.evaluation.ground_truth_names import ground_truth_from_names  # imports PyTorch

    truth = ground_truth_from_names(query_names, gallery, protocol)
    match = _use_names_of_truth(
        chosen,
        truth,
        file=file,
        other=folder,
        queries=query_names,
        names=gallery,
        truth_form=None,
    )
    return replace(match, gallery=len(gallery))


def _best_candidate(
    candidates: Sequence[ParseCandidate], queries: Collection[str], names: Collection[str]
) -> _CandidatePairs:
    """Return the way to parse a ranking that has most names in common with its truth."""
    paired = [
        _CandidatePairs(
            candidate,
            pair_names([row.query for row in candidate.rows], queries),
            pair_names(_ranked(candidate), names),
        )
        for candidate in candidates
    ]
    return max(paired, key=lambda pairs: pairs.fit)


def _use_names_of_truth(
    chosen: _CandidatePairs,
    truth: RankingGroundTruth,
    *,
    file: str,
    other: str,
    queries: Collection[str],
    names: Collection[str],
    truth_form: str | None,
) -> RankingMatch:
    """Return a ranking in the names of its ground truth.

    Args:
        chosen: the way to parse the ranking.
        truth: the ground truth.
        file: name of the ranking file.
        other: name of the file or folder that holds the truth.
        queries: names of the queries of the truth.
        names: gallery names of the truth.
        truth_form: form of the truth; None where file names are the truth.

    Raises:
        UserError: the two have no query or no gallery name in common, a name can be paired in two
            ways, or the ranking has duplicates or unordered scores.
    """
    candidate, ranked = chosen.candidate, _ranked(chosen.candidate)
    rows = collect_rows(candidate.rows, file)
    candidate.check_scores(file)
    for what, pairs, own, known in (
        ("query", chosen.queries, rows, queries),
        ("gallery name", chosen.names, ranked, names),
    ):
        pairs.check(file, other)
        if not pairs.counterparts and (ranked or what == "query"):
            raise no_common_name_error(what, file, own, other, known)
    counterparts = chosen.names.counterparts
    ranking = {
        query: tuple(counterparts.get(name, name) for name in rows[written])
        for written, query in chosen.queries.counterparts.items()
    }
    differences: dict[str, int] = {}
    for pairs in (chosen.queries, chosen.names):
        for what, count in pairs.differences.items():
            differences[what] = differences.get(what, 0) + count
    return RankingMatch(
        ranking=ranking,
        truth=truth,
        form=candidate.form,
        truth_form=truth_form,
        differences=differences,
        unknown_queries=tuple(query for query in rows if query not in chosen.queries.counterparts),
        unknown_names=tuple(sorted(name for name in ranked if name not in counterparts)),
        never_ranked=tuple(sorted(set(names) - set(counterparts.values()))),
        missing=tuple(query for query in truth.correct if query not in ranking),
    )


def _ranked(candidate: ParseCandidate) -> set[str]:
    """Return all gallery names of a ranking."""
    return {name for row in candidate.rows for name in row.names}
