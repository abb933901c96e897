"""Ray Tune's part in a search: the sources of trials, and the function that runs one."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import ray
from ray import tune
from ray.tune.search import Searcher

from expertree.orchestration.search.registry import Answer
from expertree.scheduling.dispatcher import NAMESPACE
from expertree.search.draws import OptunaDraws
from expertree.search.pareto import DIRECTIONS, by_name
from expertree.search.record import Trial
from expertree.search.space import Space

PER_TRIAL = {"CPU": 0.01}
"""Resources of a trial; it only waits, but Ray Tune refuses one that asks for nothing."""


FINISHED = cast("dict[str, Any]", Searcher.FINISHED)
"""Value that tells Ray Tune that no trial is left: a string, against its own annotation."""


class Proposals(Protocol):
    """A source of trials, which is told what they reach."""

    def propose(self) -> tuple[int, dict[str, Any]] | None:
        """Return the number of the next trial and its values; None if there is none any more."""

    def tell(self, number: int, objectives: Mapping[str, float] | None) -> None:
        """Take the objectives that a trial has reached; None if it failed."""


class ListedTrials:
    """Proposals of the trials in a list, such as a grid.

    Args:
        trials: Values of each trial.
        known: Numbers of the trials that were proposed before.
    """

    def __init__(self, trials: Sequence[Mapping[str, Any]], known: Sequence[int]) -> None:
        taken = set(known)
        self._left: Iterator[tuple[int, dict[str, Any]]] = (
            (number, dict(values)) for number, values in enumerate(trials) if number not in taken
        )

    def propose(self) -> tuple[int, dict[str, Any]] | None:
        """Return the next trial of the list; None at its end."""
        return next(self._left, None)

    def tell(self, number: int, objectives: Mapping[str, float] | None) -> None:
        """Do nothing: a list does not learn."""


class OptunaProposals:
    """Proposals of an Optuna study, whose journal lies beside the search.

    Args:
        space: Search space that values are drawn from, define-by-run.
        journal: The study's file; optuna-dashboard opens it while the search runs.
        name: Name of the study.
        seed: Seed of the sampler.
        num_trials: Most trials, those of earlier starts included.
        known: Trials of earlier starts.
    """

    def __init__(
        self,
        space: Space,
        *,
        journal: str,
        name: str,
        seed: int,
        num_trials: int,
        known: Sequence[Trial],
    ) -> None:
        # Here, because it takes a second and a search by grid does without it.
        import optuna  # noqa: PLC0415
        from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._space = space
        self._num_left = num_trials - len(known)
        self._states = optuna.trial.TrialState
        self._study = optuna.create_study(
            storage=optuna.storages.JournalStorage(JournalFileBackend(journal)),
            study_name=name,
            directions=list(DIRECTIONS.values()),
            # Trials run side by side: values that others are at are not proposed again.
            sampler=optuna.samplers.TPESampler(
                seed=seed + len(known), multivariate=False, constant_liar=True
            ),
            load_if_exists=True,
        )
        with warnings.catch_warnings():
            # Names for whoever opens the journal; nothing here depends on them.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names(list(DIRECTIONS))
        self._catch_up(known)

    def propose(self) -> tuple[int, dict[str, Any]] | None:
        """Ask the study for the next trial; None after `num_trials`."""
        if self._num_left <= 0:
            return None
        self._num_left -= 1
        asked = self._study.ask()
        return asked.number, self._space.draw(OptunaDraws(asked))

    def tell(self, number: int, objectives: Mapping[str, float] | None) -> None:
        """Tell the study what a trial has reached, unless it knows already."""
        if self._study.trials[number].state.is_finished():
            return
        if objectives is None:
            self._study.tell(number, state=self._states.FAIL)
        else:
            self._study.tell(number, [float(objectives[name]) for name in DIRECTIONS])

    def _catch_up(self, known: Sequence[Trial]) -> None:
        """Tell the study what an earlier start did not; a trial without a record has failed."""
        by_number = {trial["number"]: trial for trial in known}
        for asked in self._study.get_trials(deepcopy=False):
            trial = by_number.get(asked.number)
            if asked.state.is_finished():
                continue
            if trial is None:
                self.tell(asked.number, None)
            elif trial["status"] in ("completed", "stopped") and trial["objectives"] is not None:
                self.tell(asked.number, by_name(trial["objectives"]))


class TrialSource(Searcher):
    """A Ray Tune searcher that gives the trials to resume first, then new ones.

    Args:
        again: Trials of earlier starts that have not come to an end.
        proposals: Source of new trials.
        overrides_of: Turns drawn values into overrides of the configuration.
        registry: Name of the registry's actor.
        num_rungs: Number of rungs that a trial may reach.
    """

    def __init__(
        self,
        again: Sequence[Trial],
        proposals: Proposals,
        *,
        overrides_of: Callable[[Mapping[str, Any]], dict[str, Any]],
        registry: str,
        num_rungs: int,
    ) -> None:
        super().__init__()
        self._again = list(again)
        self._proposals = proposals
        self._overrides_of = overrides_of
        self._common = {"registry": registry, "num_rungs": num_rungs}
        self._numbers: dict[str, int] = {}
        self._is_over = False

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing: Ray Tune keeps a copy to restore from, which is never done."""
        return {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """Return the configuration of the next trial; `FINISHED` if there is none any more."""
        if self._is_over:
            return FINISHED
        if self._again:
            trial = self._again.pop(0)
            number, overrides = trial["number"], dict(trial["overrides"])
        else:
            proposed = self._proposals.propose()
            if proposed is None:
                return FINISHED
            number, overrides = proposed[0], self._overrides_of(proposed[1])
        self._numbers[trial_id] = number
        # As one string: Ray Tune would take dots and lists in it apart.
        return {**self._common, "number": number, "overrides": json.dumps(overrides)}

    def on_trial_complete(
        self,
        trial_id: str,
        result: dict[str, Any] | None = None,
        error: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        """Tell the proposals what a trial reached; end the search if its budget is spent."""
        objectives = None
        if result is not None and not error:
            self._is_over = self._is_over or bool(result.get("is_out_of_budget"))
            if result.get("status") in ("completed", "stopped") and "psnr_in" in result:
                objectives = {name: float(result[name]) for name in DIRECTIONS}
        self._proposals.tell(self._numbers[trial_id], objectives)

    def save(self, checkpoint_path: str) -> None:
        """Write an empty file: a search keeps its state in files of its own."""
        Path(checkpoint_path).write_bytes(b"")

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing; `save` keeps nothing."""


def run_trial(config: dict[str, Any]) -> None:
    """Run one trial: wait at each rung for the registry to bring its experts there, and report."""
    registry: Any = ray.get_actor(config["registry"], namespace=NAMESPACE)
    overrides = json.loads(config["overrides"])
    for rung in range(config["num_rungs"]):
        answer: Answer = ray.get(registry.reach.remote(config["number"], overrides, rung))
        report: dict[str, Any] = {
            "rung": rung,
            "status": answer["status"],
            "is_out_of_budget": answer["is_out_of_budget"],
            **(answer["objectives"] or {}),
        }
        tune.report(report)
        if answer["status"] != "running":
            return
