"""Recipes, which hold everything that makes a degraded image out of a clean one."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal, Self, TypeAlias

import numpy as np

from expertree.config import canonical_json, load
from expertree.degradation.parameters import Parameters, Severity, check_severity
from expertree.degradation.ranges import PAPER_RANGES, RangesConfig, draw_parameters
from expertree.degradation.registry import MIXABLE, REGISTRY, check_tasks
from expertree.images.io import Subsampling

Kind: TypeAlias = Literal["single", "mixed", "clean"]
DepthMeaning: TypeAlias = Literal["depth", "nearness", "disparity"]
MapMeaning: TypeAlias = DepthMeaning | Literal["light", "opacity"]

GATE_PROBABILITY = 0.5
"""Chance of each degradation to be part of a mixture (paper 000, appendix B.2)."""

MIN_MIXED_TASKS = 2

NO_RECIPE = "{}"
"""What stands in place of a recipe where a picture was not made here, but is as it was found."""

_MAX_SEED = 2**63


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class MapCut:
    """The part of a map's file that was scaled to the size of the image.

    Attributes:
        file: Path inside its folder of maps.
        sha256: SHA-256 of the file's bytes.
        meaning: Meaning of its values.
        top_px: First row of the part.
        left_px: First column of the part.
        height_px: Rows of the part.
        width_px: Columns of the part.
    """

    file: str
    sha256: str
    meaning: MapMeaning
    top_px: int
    left_px: int
    height_px: int
    width_px: int


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SavedAs:
    """The coding of a JPEG file that is good enough not to count as a degradation.

    Attributes:
        quality: libjpeg's quality.
        subsampling: Subsampling of the colours.
    """

    quality: int
    subsampling: Subsampling


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """Degradations in physical order, their parameters, and the seed of all that is random.

    Attributes:
        tasks: Names from the registry, in its order; none for a clean image.
        parameters: Parameters of each task.
        seed: Seed of everything random, at least 0 and below 2^63.
        maps: Real maps by the name that `registry.Maps` gives them; all others are procedural.
        saved: JPEG coding in which the degraded picture is saved; None if without loss.
    """

    tasks: tuple[str, ...]
    parameters: Mapping[str, Parameters]
    seed: int
    maps: Mapping[str, MapCut] = dataclasses.field(default_factory=dict)
    saved: SavedAs | None = None

    def __post_init__(self) -> None:
        """Raise ValueError unless tasks, parameters, maps and seed fit each other.

        Raises:
            ValueError: If a task is unknown, repeated or out of order, if parameters or maps do not
                match the tasks, or if the seed is out of range.
        """
        if self.tasks:
            check_tasks(self.tasks)
        if self.tasks != tuple(task for task in REGISTRY if task in self.tasks):
            raise ValueError(
                f"tasks {self.tasks} are not in physical order ({', '.join(REGISTRY)})"
            )
        if set(self.parameters) != set(self.tasks):
            raise ValueError(
                f"parameters are for {sorted(self.parameters)}, but the tasks are {self.tasks}"
            )
        if not 0 <= self.seed < _MAX_SEED:
            raise ValueError(f"seed must be at least 0 and below 2^63, got {self.seed}")
        taken = {REGISTRY[task].takes for task in self.tasks}
        if not taken.issuperset(self.maps):
            raise ValueError(
                f"maps are {sorted(self.maps)}, which the tasks {self.tasks} do not take"
            )

    def to_json(self) -> str:
        """Return canonical JSON: equal recipes give equal strings, and numbers survive exactly."""
        maps = {"maps": self.maps} if self.maps else {}
        saved = {"saved": self.saved} if self.saved is not None else {}
        return canonical_json(
            {"tasks": list(self.tasks), "parameters": self.parameters, "seed": self.seed}
            | maps
            | saved
        )

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: If it is not a recipe.
        """
        data: Any = json.loads(text)
        required = {"tasks", "parameters", "seed"}
        if not isinstance(data, dict) or data.keys() - {"maps", "saved"} != required:
            raise ValueError(f"not a recipe: {text[:200]!r}")
        return cls(
            tasks=tuple(data["tasks"]),
            parameters=data["parameters"],
            seed=data["seed"],
            maps={name: load(MapCut, cut) for name, cut in data.get("maps", {}).items()},
            saved=load(SavedAs, data["saved"]) if "saved" in data else None,
        )


def draw_recipe(
    rng: np.random.Generator,
    *,
    tasks: tuple[str, ...],
    kind: Kind,
    severity: Severity,
    ranges: RangesConfig = PAPER_RANGES,
) -> Recipe:
    """Choose degradations, and draw their parameters and the recipe's seed.

    Args:
        rng: Source of all draws, the recipe's own seed included.
        tasks: Degradations to choose from.
        kind: `single` takes one of them; `mixed` opens a gate for each mixable one with
            `GATE_PROBABILITY`, again until at least `MIN_MIXED_TASKS` are open; `clean` takes none.
        severity: The ranges of all parameters, or one point in them.
        ranges: Ranges that differ from the paper's.

    Raises:
        ValueError: If a task or the severity is unknown, or a mixture has less than
            `MIN_MIXED_TASKS` to choose from.
    """
    if kind != "clean":
        check_tasks(tasks)
    check_severity(severity)
    chosen = _choose(rng, tasks, kind)
    parameters = {task: draw_parameters(task, rng, severity, ranges) for task in chosen}
    return Recipe(tasks=chosen, parameters=parameters, seed=int(rng.integers(_MAX_SEED)))


def mixable(tasks: tuple[str, ...]) -> tuple[str, ...]:
    """Return those of the tasks that a mixture may contain, in physical order."""
    return tuple(task for task in MIXABLE if task in tasks)


def _choose(rng: np.random.Generator, tasks: tuple[str, ...], kind: Kind) -> tuple[str, ...]:
    if kind == "clean":
        return ()
    if kind == "mixed":
        return _open_gates(rng, tasks)
    return (tasks[int(rng.integers(len(tasks)))],)


def _open_gates(rng: np.random.Generator, tasks: tuple[str, ...]) -> tuple[str, ...]:
    gates = mixable(tasks)
    if len(gates) < MIN_MIXED_TASKS:
        raise ValueError(
            f"a mixture needs at least {MIN_MIXED_TASKS} of {', '.join(MIXABLE)}; got {tasks}"
        )
    while True:
        is_open = rng.random(len(gates)) < GATE_PROBABILITY
        if is_open.sum() >= MIN_MIXED_TASKS:
            return tuple(task for task, chosen in zip(gates, is_open, strict=True) if chosen)
