"""The record of a search for its report, W&B and people: the content of `search.json`.

It is written again whenever something changes, so a search that runs, or that was killed, has one.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NotRequired, TypeAlias, TypedDict

Scalar: TypeAlias = str | int | float | bool | None

Status = Literal["waiting", "running", "completed", "stopped", "failed"]
"""The status of a trial. `completed` has reached the last rung; `stopped` was ended before that by
a rung or the budget, and `failed` ended with an error: both with a `reason`."""

VERSION = 1
"""The version of the format."""


class Objectives(TypedDict):
    """The values that a trial is judged by.

    `psnr_in` and `psnr_out` are the mean PSNR (dB, RGB) of the routed experts over the degradations
    of the validation sets in and out of distribution, to be maximised. `gpu_hours` is what training
    this tree's experts in full takes if nothing is shared, in hours of a lane (which is a GPU or,
    without one, a CPU), to be minimised; it does not depend on the rung.
    """

    psnr_in: float
    psnr_out: float
    gpu_hours: float


class RungResult(TypedDict):
    """The results of a trial at one rung.

    `fraction` is the share of their samples that its experts have been trained on; `objectives` is
    what the tree reaches there, and `best_level_in`, `best_level_out` what the best level of each
    path would reach (dB). `at_s` counts from the beginning of the search; `goes_on` says whether
    the trial was let into the next rung (None at the last one).
    """

    rung: int
    fraction: float
    objectives: Objectives
    best_level_in: float
    best_level_out: float
    at_s: float
    goes_on: bool | None


class Node(TypedDict):
    """A node of a trial's tree; `expert` is the key of the expert that serves it.

    `dominant` has the largest shares of its training samples by degradation. A root that is only
    cut, and never chosen, is not `served`; its `expert` is None.
    """

    index: int
    level: int
    parent: int | None
    num_samples: int
    dominant: Sequence[tuple[str, float]]
    served: bool
    expert: str | None


class Trial(TypedDict):
    """One tree that was tried.

    Attributes:
        number: Number from 0, in the order in which trials began; the Optuna study uses it too.
        shape: Groups by level in words, such as `{1, 4, 8}`.
        parameters: Values that were drawn or follow from those, flattened to scalars:
            `tree.levels`, `tree.k1`, `tree.k2`, ..., `tree.num_experts`, `router.alpha`, ... Not
            all trials have all.
        overrides: The same as configuration keys and values, as `expertree build` takes them, but
            for keys with an index, which are one entry of a list.
        status: See `Status`.
        reason: Why it was stopped or failed, in a sentence.
        reached: Results by rung; empty until the first.
        objectives: Objectives at the last rung that it reached; None before the first.
        measured: Other measurements, as scalars: `tree.silhouette.1` (by level),
            `tree.num_parameters` (of all its experts), `routed.noise.2` (the share of noisy images
            in distribution that are sent to level 2), ...
        tree: Nodes of its tree, breadth first; empty until it was cut.
        experts: Keys of the experts that it needs.
        trained_hours: Hours of lanes that were spent on the experts which it was the first to need.
        begin_s: Seconds from the beginning of the search until it began.
        end_s: Seconds from the beginning of the search until it ended; None while it runs.
    """

    number: int
    shape: str
    parameters: Mapping[str, Scalar]
    overrides: Mapping[str, object]
    status: Status
    reason: str | None
    reached: Sequence[RungResult]
    objectives: Objectives | None
    measured: NotRequired[Mapping[str, float]]
    tree: Sequence[Node]
    experts: Sequence[str]
    trained_hours: float
    begin_s: float
    end_s: float | None


class Expert(TypedDict):
    """One expert, however many trials use it.

    `trials` are the numbers of those that need it. `samples` of `num_samples` have been trained on,
    in `hours` of a lane; `in_store` says that it was there in full before the search began.
    `repeated` counts how often it was trained again to a rung that it had reached: 0 if all is
    well.
    """

    key: str
    label: str
    trials: Sequence[int]
    num_samples: int
    samples: int
    hours: float
    in_store: bool
    repeated: int


class Cost(TypedDict):
    """The cost of a search, with experts shared (`shared_*`) and without (`naive_*`).

    Hours are of lanes. Without sharing each trial trains its own experts. Both count what the
    trials reached: a trial stopped at a quarter costs a quarter, in `naive` as in `shared`;
    `naive_full_hours` is without stopping too. `duplicates` counts pieces of experts that were
    trained more than once.
    """

    shared_trainings: int
    naive_trainings: int
    shared_hours: float
    naive_hours: float
    naive_full_hours: float
    duplicates: int
    budget_hours: float | None


class Importance(TypedDict):
    """The importance of a parameter for an objective, over trials that reached the last rung.

    `share` is the share of the objective's variance between values of the parameter alone, `chance`
    the share that a parameter without any influence would have on average with as many values and
    trials, `p_value` how often it would have as much or more. `trust` puts that into a word:
    `clear` (p up to 0.01), `weak` (up to 0.1), `none`.
    """

    parameter: str
    objective: str
    share: float
    chance: float
    p_value: float
    num_trials: int
    num_values: int
    trust: Literal["clear", "weak", "none"]


class Best(TypedDict):
    """The best completed trial by one objective; `mean` is that of both PSNRs."""

    objective: str
    trial: int
    value: float


class Search(TypedDict):
    """The record of a whole search.

    Attributes:
        version: Version of the format.
        title: Heading of the page.
        space: Name of the search space, such as `granularity`.
        searcher: `optuna`, `random` or `grid`.
        created: When it began, ISO 8601.
        commit: Commit of the source.
        status: `running`, `done`, `stopped` (by the budget) or `interrupted`.
        seconds: Seconds that it has taken, over all starts of the job.
        num_starts: How often the job was started.
        size: Number of different trials in the space; None if infinitely many.
        num_trials: Number of trials wanted.
        parameters: Names of flattened parameters that differ between trials, in order.
        fractions: The share of its samples that an expert has seen at each rung; the last is 1.
        trials: All trials so far, by number.
        experts: All experts so far.
        cost: Cost with and without sharing.
        pareto: Numbers of completed trials that no other one beats in every objective.
        importance: Importance of the parameters, by objective and then share.
        best: Best trial by each objective.
        best_command: Command that builds the best tree (by `mean`); None as long as there is none.
        unit: Device that hours are counted of: `GPU` or `CPU`.
    """

    version: int
    title: str
    space: str
    searcher: str
    created: str
    commit: str | None
    status: Literal["running", "done", "stopped", "interrupted"]
    seconds: float
    num_starts: int
    size: int | None
    num_trials: int
    parameters: Sequence[str]
    fractions: Sequence[float]
    trials: Sequence[Trial]
    experts: Sequence[Expert]
    cost: Cost
    pareto: Sequence[int]
    importance: Sequence[Importance]
    best: Sequence[Best]
    best_command: str | None
    unit: str


def shape_in_words(groups: Sequence[int]) -> str:
    """Return the groups of a tree's levels as people write them, such as `{1, 4, 8}`."""
    return "{" + ", ".join(str(count) for count in groups) + "}"
