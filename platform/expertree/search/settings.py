"""The configuration of a search: that of a build, and how a space is searched."""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from expertree.config import fingerprint, load, to_dict
from expertree.errors import ConfigError
from expertree.pipeline.settings import SAMPLES_OF_A_PATH, BuildConfig, ExpertsConfig
from expertree.search.rungs import check_fractions
from expertree.search.sharing import Demand
from expertree.search.space import Space, apply
from expertree.search.space_file import read_space

_USUAL_TRIALS = 24


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SearchSettings:
    """Settings of how a space is searched."""

    searcher: Literal["optuna", "random", "grid"] = "optuna"
    """`optuna` proposes by what trials have reached, for all objectives at once; `random` draws;
    `grid` takes all, for spaces of choices and whole numbers."""

    num_trials: int | None = None
    """Trials at most. Null for all of a grid, and 24 otherwise."""

    concurrent: int = 4
    """Trials at a time. They only wait: how many experts train at a time is up to the lanes."""

    fractions: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Shares of the training after which trials are compared, the rungs; only 1.0 stops none."""

    reduction: float = 3.0
    """One trial in so many at a rung goes on."""

    budget_hours: float | None = None
    """Hours of lanes (GPUs, or CPUs without them) for training in all; also `--budget`. What trains
    when they are spent is finished, and nothing more begins. Null for no limit."""

    seed: int = 0
    """Seed of the draws of trials."""

    build_best: bool = False
    """Build the best tree at the end, from the experts that are there, with report and bundle."""

    def __post_init__(self) -> None:
        """Raise ValueError for rungs that do not grow to 1, or a number out of range."""
        check_fractions(self.fractions)
        for name in ("num_trials", "concurrent"):
            given = getattr(self, name)
            if given is not None and given < 1:
                raise ValueError(f"{name} must be at least 1, got {given}")
        if self.reduction <= 1.0:
            raise ValueError(f"reduction must be above 1, got {self.reduction}")
        if self.budget_hours is not None and self.budget_hours <= 0:
            raise ValueError(f"budget_hours must be positive, got {self.budget_hours}")

    def most_trials(self, size: int | None) -> int:
        """Return how many trials there are at most in a space.

        Args:
            size: Number of its different trials; None if infinitely many.
        """
        if self.searcher != "grid" or size is None:
            return _USUAL_TRIALS if self.num_trials is None else self.num_trials
        return size if self.num_trials is None else min(self.num_trials, size)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig(BuildConfig):
    """The whole configuration of a search; what trials have in common is given as for a build."""

    title: str = "A search over trees"
    """Heading of the report."""

    output: str = "runs/search"
    """Folder or URI for the record, the study and the best tree's configuration."""

    experts: ExpertsConfig = ExpertsConfig(comparisons=(SAMPLES_OF_A_PATH,))
    """Experts as for a build. Trials are compared with each other and train no network besides the
    tree; the best tree's build has the cheaper one."""

    search_space: str = "granularity"
    """Name of a space that comes with the package (`search_spaces`), or path of a YAML file."""

    search: SearchSettings = SearchSettings()

    def __post_init__(self) -> None:
        """Check the configuration as for a build, and that the runner is Ray.

        Raises:
            ConfigError: If it is impossible; the message says what to change.
        """
        BuildConfig.__post_init__(self)
        if self.cluster.runner == "local":
            raise ConfigError(
                "a search trains the experts of several trials side by side, but cluster.runner is "
                "local; set it to ray"
            )


_BY_LEVEL = "experts.num_samples"


def base_of(config: SearchConfig) -> dict[str, Any]:
    """Return what trials have in common, as a build's configuration in plain data."""
    data = to_dict(config)
    for name in ("search_space", "search"):
        del data[name]
    return data


def trial_config(config: SearchConfig, overrides: Mapping[str, Any]) -> BuildConfig:
    """Return the configuration of one trial's build.

    Raises:
        ConfigError: If there can be no such build.
    """
    return load(BuildConfig, apply(BuildConfig, base_of(config), overrides))


def check_trials(config: SearchConfig, trials: Iterable[Mapping[str, Any]]) -> None:
    """Check that trials are possible, as far as that is known before anything is made.

    Args:
        config: The search.
        trials: Overrides of each trial.

    Raises:
        ConfigError: If one is impossible; the message says which and why.
    """
    for overrides in trials:
        try:
            experts = trial_config(config, overrides).experts
        except ConfigError as error:
            raise ConfigError(
                f"search space '{config.search_space}' has an impossible trial, "
                f"{dict(overrides)}: {error}"
            ) from None
        idle = [key for key in overrides if key.partition("[")[0] == _BY_LEVEL]
        if idle and experts.samples_per_expert is not None:
            raise ConfigError(
                f"search space '{config.search_space}' has {idle[0]}, which does nothing beside "
                f"experts.samples_per_expert={experts.samples_per_expert}; set that to null"
            )


def open_space(name: str, folder: Path) -> Space:
    """Read a space by its name or path.

    Args:
        name: Name of a file in `folder` without `.yaml`, or a path that ends with it.
        folder: Folder of the named spaces.

    Raises:
        ConfigError: If there is no such space, or it cannot be searched.
    """
    is_path = name.endswith((".yaml", ".yml"))
    path = Path(name) if is_path else folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(found.stem for found in folder.glob("*.yaml")))
        what = f"there is no file {name}" if is_path else f"'{name}' is none of {known}"
        raise ConfigError(f"search_space: {what}; give one of them, or a path to a YAML file")
    try:
        data = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"search space {path} is not YAML: {reason}") from error
    return read_space(path.stem, data, BuildConfig)


def demands(config: BuildConfig) -> list[Demand]:
    """Return the experts that one tree needs, by level; a group not cut further counts on each."""
    hierarchy, experts = config.hierarchy, config.experts
    cut, own = hierarchy.cut_groups, experts.samples_per_expert
    shares_groups = hierarchy.method == "bisecting" and experts.depends_on_group_only
    how = {**to_dict(hierarchy), "groups": None}
    needs_root = hierarchy.has_root or experts.warm_start
    found = []
    for level, count in enumerate(cut):
        if level == 0 and not needs_root:
            continue
        if level == 0:
            groups: object = "everything"
        else:
            groups = {**how, "groups": count if shares_groups else list(cut[: level + 1])}
        num_samples = own if own is not None else experts.num_samples[level]
        kind = fingerprint([groups, to_dict(experts), num_samples])
        found.append(Demand(kind=kind, count=count, num_samples=num_samples))
    return found
