"""Rows of ours from the scores of images: input, best classical method, routed."""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from expertree.datasets import DATASETS, Dataset, Found, Protocol
from expertree.datasets.protocols import in_words
from expertree.evaluation.public_sets import Column, Result, Row, column_key
from expertree.public_sets.measuring import CLASSICAL, ROUTED, TOLD, Scored
from expertree.public_sets.origin import Origin

_Scores = Mapping[str, Sequence[Sequence[float]]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Measured:
    """A column, and the scores of each method on its images, in one order."""

    column: Column
    scores: _Scores


def columns_and_rows(
    found: Sequence[Found], scored: Sequence[Scored], origin: Origin
) -> tuple[list[Column], list[Row]]:
    """Return the measured columns, and the rows of ours on them.

    The classical method of a column is the one with the best mean PSNR on that column itself: it is
    told the task and chosen with the clean images at hand, so no honest choice beats it.

    Args:
        found: The sets, as they were found.
        scored: Scores of their images.
        origin: What is known of the model.
    """
    by_split: dict[tuple[str, str], list[Scored]] = defaultdict(list)
    for one in scored:
        if "scores" in one:
            by_split[one["dataset"], one["split"]].append(one)
    measured = [
        column
        for one in found
        for dataset in one.splits
        for column in _measured(dataset, by_split[dataset.name, dataset.split])
    ]
    inputs = {one.column.key: _mean(one.scores["input"]) for one in measured}
    classical = {one.column.key: best for one in measured if (best := _best_classical(one.scores))}
    routed = {one.column.key: _mean(one.scores[ROUTED]) for one in measured}
    told = {one.column.key: _mean(one.scores[TOLD]) for one in measured if TOLD in one.scores}
    active = origin.num_active_parameters
    rows = [
        Row(kind="input", method="input", note="as it came", results=inputs),
        Row(
            kind="classical",
            method="best classical, told the task",
            note="the method without learning that is best on the column",
            results=classical,
        ),
        Row(
            kind="routed",
            method=f"expertree, {origin.title}",
            note=origin.note,
            parameters=origin.num_parameters,
            active_parameters=active if active < origin.num_parameters else None,
            multiply_adds=origin.multiply_adds_256,
            training_samples=origin.training_samples,
            source=origin.source,
            results=routed,
        ),
        Row(
            kind="told",
            method=f"expertree, {origin.title}, told the task",
            note="the same experts, chosen among those for what is wrong",
            results=told,
        ),
    ]
    return [one.column for one in measured], [row for row in rows if row.results]


def _measured(dataset: Dataset, scored: Sequence[Scored]) -> Iterator[_Measured]:
    """Yield the columns of a split: under each protocol all of it, then each kind apart."""
    spec = DATASETS[dataset.name]
    expected = spec.splits[dataset.split].num_pairs
    for protocol in (dataset.protocol, *dataset.others) if scored else ():
        column = Column(
            key=column_key(dataset.name, dataset.split, protocol.name),
            title=_title(dataset, protocol),
            protocol=in_words(protocol),
            num_images=len(scored),
            is_whole=expected in {None, len(scored)},
        )
        kinds = {
            kind: [one for one in scored if one["name"].startswith(f"{kind}/")]
            for kind in spec.kinds
        }
        parts = {kind: _by_method(members, protocol) for kind, members in kinds.items()}
        whole = _by_method(scored, protocol) if not parts else _joined(list(parts.values()))
        yield _Measured(column=column, scores=whole)
        for kind, scores in parts.items():
            yield _Measured(
                column=dataclasses.replace(
                    column,
                    key=f"{dataset.name}/{kind}",
                    title=f"{spec.title} {kind.replace('_', ' + ')}",
                    num_images=len(kinds[kind]),
                ),
                scores=scores,
            )


def _title(dataset: Dataset, protocol: Protocol) -> str:
    spec = DATASETS[dataset.name]
    words = [spec.title]
    if dataset.split != protocol.name and len(spec.measured) > 1:
        words.append(dataset.split)
    for task, parameters in protocol.degradation.items():
        words.append(f"{task.replace('jpeg', 'JPEG')} {next(iter(parameters.values())):g}")
    if protocol.rounding == "none":
        words.append("float")
    if protocol.channels != "rgb":
        words.append(protocol.channels.upper() if protocol.channels == "y" else protocol.channels)
    return " ".join(words)


def _by_method(scored: Sequence[Scored], protocol: Protocol) -> _Scores:
    found: dict[str, list[Sequence[float]]] = defaultdict(list)
    for one in scored:
        for method, score in one["scores"][protocol.name].items():
            found[method].append(score)
    return found


def _joined(parts: Sequence[_Scores]) -> _Scores:
    """Join the scores of kinds whose classical methods differ: each kind has its best one.

    What was told is joined where every kind has it.
    """
    joined: dict[str, list[Sequence[float]]] = defaultdict(list)
    for scores in parts:
        best = _best_classical(scores)
        for method in ("input", ROUTED, *([TOLD] if all(TOLD in one for one in parts) else [])):
            joined[method] += scores[method]
        if best is not None:
            joined[f"{CLASSICAL}the best of each"] += scores[f"{CLASSICAL}{best.note}"]
    return joined


def _best_classical(scores: _Scores) -> Result | None:
    means = {
        name.removeprefix(CLASSICAL): _mean(found)
        for name, found in scores.items()
        if name.startswith(CLASSICAL)
    }
    if not means:
        return None
    best = max(means, key=lambda name: means[name].psnr)
    return dataclasses.replace(means[best], note=best)


def _mean(scores: Sequence[Sequence[float]]) -> Result:
    return Result(
        psnr=fmean(score[0] for score in scores), ssim=fmean(score[1] for score in scores)
    )


def experts_used(scored: Sequence[Scored]) -> dict[str, Any]:
    """Return for each set how many images each expert restored, and how many were left as is."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for one in scored:
        name = "as is" if one["expert"] is None else str(one["expert"])
        counts[f"{one['dataset']}/{one['split']}"][name] += 1
    return {key: dict(sorted(found.items())) for key, found in counts.items()}
