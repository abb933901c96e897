"""The record of a comparison: its tables, costs, paired differences and choices, as plain data."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from expertree.comparison.choosing import read_choices
from expertree.comparison.costs import CostRow, costs_of
from expertree.comparison.plan import VAL_IN, VAL_OUT
from expertree.comparison.run import Compared, Reached
from expertree.comparison.settings import CompareConfig, Match
from expertree.evaluation import AS_IS, HARM_DB, Scores
from expertree.evaluation.paired import (
    Interval,
    chance_information,
    mutual_information,
    paired_interval,
    shares_of_choices,
)
from expertree.evaluation.public_sets import SetsTable
from expertree.evaluation.tables import columns_of

INPUT = "input"
AVERAGE = "average"

SETS: Mapping[str, str] = {"in": VAL_IN, "out": VAL_OUT}
"""Patch sets by the name of their distribution."""

Groups = Mapping[str, Int[np.ndarray, " _"]]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Value:
    """A number for each seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return math.fsum(self.values) / len(self.values)

    @property
    def low(self) -> float:
        """Least of all seeds."""
        return min(self.values)

    @property
    def high(self) -> float:
        """Most of all seeds."""
        return max(self.values)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A method in a table; lists run along its columns.

    Attributes:
        method: Its name.
        told: Whether it was told what is wrong with each image.
        psnr: PSNR over RGB in dB.
        ssim: SSIM.
        harmed: Share of images that are worse than the input by more than 0.1 dB.
    """

    method: str
    told: bool
    psnr: tuple[Value, ...]
    ssim: tuple[Value, ...]
    harmed: tuple[Value, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """Methods by degradation; the last column is the average over the others."""

    distribution: str
    kind: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Difference:
    """A method's PSNR less the best method's, image by image, in dB."""

    method: str
    interval: Interval


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Paired:
    """Differences of all other methods to the best one that is not told, on single degradations."""

    distribution: str
    best: str
    rows: tuple[Difference, ...]


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Choices:
    """Which experts inside a method the single degradations in distribution are sent to.

    Attributes:
        method: The method; the shares are those of the first seed.
        place: Place of choice that tells most of the degradation, from 1.
        experts: What was chosen there at all.
        degradations: Names of the rows.
        shares: Share of each expert, by degradation.
        information: Bits that each place tells of the degradation, by seed.
        chance: Bits that it would tell by chance.
        most: Bits that would tell the degradation for sure.
    """

    method: str
    place: int
    experts: tuple[str, ...]
    degradations: tuple[str, ...]
    shares: tuple[tuple[float, ...], ...]
    information: tuple[Value, ...]
    chance: float
    most: float


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """All that a comparison found, and what it was made with.

    Attributes:
        title: Heading.
        command: The command line.
        created: When, in UTC.
        commit: Commit of the source.
        machine: The machine, in words.
        match: What methods got as much of.
        seeds: Seeds of the trainings.
        num_images: Images of each table, by its distribution.
        tables: Tables of results.
        paired: Differences to the best method.
        costs: What each method took.
        choices: Choices inside methods.
        sets: Results on public sets; None if none were given.
        notes: What more is to be known.
        config: The whole configuration.
    """

    title: str
    command: str
    created: str
    commit: str | None
    machine: str
    match: Match
    seeds: tuple[int, ...]
    num_images: Mapping[str, int]
    tables: tuple[Table, ...]
    paired: tuple[Paired, ...]
    costs: tuple[CostRow, ...]
    choices: tuple[Choices, ...]
    sets: SetsTable | None
    notes: tuple[str, ...]
    config: Mapping[str, Any]


def tables_of(compared: Compared) -> tuple[Table, ...]:
    """Return the tables: single and mixed degradations, in and out of distribution."""
    kinds: tuple[Literal["single", "mixed"], ...] = ("single", "mixed")
    found = []
    for distribution, name in SETS.items():
        for kind in kinds:
            groups = columns_of(compared.tasks[name], kind, compared.common.kinds)
            if groups:
                found.append(_table(compared, distribution, kind, groups))
    return tuple(found)


def _table(compared: Compared, distribution: str, kind: str, groups: Groups) -> Table:
    name = SETS[distribution]
    inputs = compared.inputs[name]
    rows = [_row(INPUT, [inputs], inputs, groups, told=False)]
    for method, own in by_method(compared).items():
        scores = [one.scores[name] for one in own]
        rows.append(_row(method, scores, inputs, groups, told=own[0].training.method.told))
    columns = (*groups, AVERAGE)
    return Table(distribution=distribution, kind=kind, columns=columns, rows=tuple(rows))


def _row(
    method: str, scores: Sequence[Scores], inputs: Scores, groups: Groups, *, told: bool
) -> Row:
    harmed = [(one.psnr_rgb < inputs.psnr_rgb - HARM_DB).astype(np.float64) for one in scores]
    return Row(
        method=method,
        told=told,
        psnr=_values([one.psnr_rgb for one in scores], groups),
        ssim=_values([one.ssim for one in scores], groups),
        harmed=_values(harmed, groups),
    )


def _values(by_seed: Sequence[Float[np.ndarray, " patches"]], groups: Groups) -> tuple[Value, ...]:
    """Return the means of each group, and last the mean of these, by seed."""
    means = [[float(values[own].mean()) for own in groups.values()] for values in by_seed]
    means = [[*own, math.fsum(own) / len(own)] for own in means]
    return tuple(Value(values=column) for column in zip(*means, strict=True))


def by_method(compared: Compared) -> dict[str, list[Reached]]:
    """Return what was reached by method, seeds in order."""
    found: dict[str, list[Reached]] = {}
    for one in compared.reached:
        found.setdefault(one.training.method.name, []).append(one)
    return found


def paired_of(compared: Compared, tables: Sequence[Table]) -> tuple[Paired, ...]:
    """Return each method's difference to the best one on single degradations, by distribution."""
    found = []
    for table in tables:
        if table.kind != "single":
            continue
        best = best_blind(table)
        name = SETS[table.distribution]
        groups = columns_of(compared.tasks[name], "single", compared.common.kinds)
        psnr = {
            method: np.mean([one.scores[name].psnr_rgb for one in own], axis=0)
            for method, own in by_method(compared).items()
        }
        rows = [
            Difference(
                method=method,
                interval=paired_interval(values - psnr[best], list(groups.values())),
            )
            for method, values in psnr.items()
            if method != best
        ]
        found.append(Paired(distribution=table.distribution, best=best, rows=tuple(rows)))
    return tuple(found)


def best_blind(table: Table) -> str:
    """Return the method of the best average PSNR that is not told; of all if all are told."""
    rows = [row for row in table.rows if row.method != INPUT]
    blind = [row for row in rows if not row.told] or rows
    return max(blind, key=lambda row: row.psnr[-1].mean).method


def choices_of(compared: Compared) -> tuple[Choices, ...]:
    """Return the choices of every method that makes some."""
    groups = columns_of(compared.tasks[VAL_IN], "single", compared.common.kinds)
    if len(groups) < 2:
        return ()
    rows = np.concatenate(list(groups.values()))
    labels = [task for task, own in groups.items() for _ in own]
    found = []
    for method, reached in by_method(compared).items():
        chosen = [_chosen(compared, one) for one in reached]
        if chosen[0] is not None:
            own = [one[rows] for one in chosen if one is not None]
            found.append(_choices(method, own, labels, list(groups)))
    return tuple(found)


def _chosen(compared: Compared, reached: Reached) -> Int[np.ndarray, "patches places"] | None:
    if reached.nodes:
        return reached.nodes[VAL_IN][:, None]
    stored = compared.choices.get(reached.training.plans[0].key)
    return None if stored is None else read_choices(stored)


def _choices(
    method: str,
    chosen: Sequence[Int[np.ndarray, "images places"]],
    labels: Sequence[str],
    order: Sequence[str],
) -> Choices:
    information = tuple(
        Value(values=tuple(mutual_information(own[:, place], labels) for own in chosen))
        for place in range(chosen[0].shape[1])
    )
    place = max(range(len(information)), key=lambda number: information[number].values[0])
    experts, shares = shares_of_choices(chosen[0][:, place], labels, order)
    counts = np.array([labels.count(name) for name in order]) / len(labels)
    return Choices(
        method=method,
        place=place + 1,
        experts=tuple("as it is" if number == AS_IS else str(number) for number in experts),
        degradations=tuple(order),
        shares=tuple(map(tuple, shares)),
        information=information,
        chance=chance_information(chosen[0][:, place], labels),
        most=float(-(counts * np.log2(counts)).sum()),
    )


def record_of(
    config: CompareConfig,
    compared: Compared,
    *,
    command: str,
    created: str,
    commit: str | None,
    machine: str,
    settings: Mapping[str, Any],
    sets: SetsTable | None = None,
) -> Comparison:
    """Return the record of a comparison."""
    tables = tables_of(compared)
    costs = costs_of(config, compared)
    return Comparison(
        title=config.title,
        command=command,
        created=created,
        commit=commit,
        machine=machine,
        match=config.match,
        seeds=config.seeds,
        num_images={name: len(compared.tasks[own]) for name, own in SETS.items()},
        tables=tables,
        paired=paired_of(compared, tables),
        costs=costs,
        choices=choices_of(compared),
        sets=sets,
        notes=notes_of(config, compared),
        config=settings,
    )


def notes_of(config: CompareConfig, compared: Compared) -> tuple[str, ...]:
    """Return what must be known to read the tables, in sentences."""
    notes = []
    if any(method.tree for method in config.methods):
        notes.append(
            "Samples of a tree are those of all its experts together; one image runs one expert."
        )
    if config.match == "multiply_adds":
        notes.append(
            "Multiply-adds of training are three forward passes a sample, each image on its "
            "dearest way; what an extractor, or a first phase of a training, does differently is "
            "not counted."
        )
    if config.match == "seconds":
        notes.append(
            f"Speeds were measured by trainings of {config.timed_samples} samples, one at a time, "
            "and are kept in the store."
        )
    if config.rates:
        factors = ", ".join(map(str, config.rates))
        notes.append(
            f"Learning rates: the best of {factors} times the recipe's, by trainings of "
            f"{config.rates_share:g} of the budget with seed {config.seeds[0]}, on photographs "
            "that no table reports; a tree's by its network alone."
        )
    notes.append(
        f"Intervals are of patches alone, cut from {compared.num_photographs} photographs, which "
        "makes them too narrow; what seeds change stands in the ranges."
    )
    return tuple(notes)
