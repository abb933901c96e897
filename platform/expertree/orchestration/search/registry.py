"""The registry of a search, which has each expert trained once, however many trials need it.

An actor outside of any trial's resources. It asks lanes for the experts that a trial needs and
nobody has trained, and answers when they have reached the next rung. What it knows lies in files:
when it dies, Ray restarts it, and it goes on where it was, as do the trials that had asked.
"""

import asyncio
import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import ray
from ray.exceptions import ActorDiedError, RayError, RayTaskError

from expertree.config import fingerprint
from expertree.errors import ExpertreeError, TrainingError
from expertree.orchestration.search import tasks
from expertree.orchestration.search.requests import Handle, Requests
from expertree.orchestration.search.tasks import PackedSetup
from expertree.scheduling.dispatcher import NAMESPACE
from expertree.scheduling.tasks import TrainingTask
from expertree.search.record import Objectives, RungResult, Trial, shape_in_words
from expertree.search.rungs import goes_on, value_of, why_stopped
from expertree.search.single_flight import SingleFlight
from expertree.search.space import GROUPS, flatten
from expertree.search.state import SearchState
from expertree.search.trial_plan import ExpertNeed, TrialPlan, TrialResult
from expertree.storage import Storage

logger = logging.getLogger(__name__)
POLL_S = 0.3
_MOST_FAILURES = 30
"""Failed polls in a row after which no trial waits any longer."""

Answer: TypeAlias = dict[str, Any]
"""Answer to a trial: its `status`, and what it has reached at the rung that it asked for."""


class BudgetSpentError(ExpertreeError):
    """Raised when the hours that the search may take are spent."""


class Registry:
    """The registry of a search; see the module.

    Args:
        setup: Setup that all trials have in common, packed.
        dispatcher: Handle on the dispatcher of the lanes.
        output: The search's output folder.
        fractions: Shares of the training at which trials are compared.
        reduction: Factor of the selection: one of so many trials at a rung goes on.
        budget_hours: Cap on the hours of the lanes' devices; None for no limit.
        devices_per_lane: Number of GPUs, or CPUs, of a lane, each of whose hours counts.
        begin_s: Start of the search as Unix time, less the seconds that earlier starts took.
    """

    def __init__(
        self,
        setup: PackedSetup,
        dispatcher: Handle,
        *,
        output: Storage,
        fractions: Sequence[float],
        reduction: float,
        budget_hours: float | None,
        devices_per_lane: float,
        begin_s: float,
    ) -> None:
        self._setup, self._dispatcher = setup, dispatcher
        self._state = SearchState(output, devices_per_lane=devices_per_lane)
        self._fractions, self._reduction = fractions, reduction
        self._budget_hours, self._begin_s = budget_hours, begin_s
        self._reaches: SingleFlight[Answer] = SingleFlight()
        self._plans: SingleFlight[TrialPlan] = SingleFlight()
        self._planning = asyncio.Lock()
        self._judgements: SingleFlight[TrialResult] = SingleFlight()
        self._planned: dict[str, TrialPlan] = {}
        self._requests = Requests(dispatcher)
        self._trained: set[str] = set()
        self._watch: asyncio.Task[None] | None = None

    async def reach(self, number: int, overrides: Mapping[str, Any], rung: int) -> Answer:
        """Bring a trial to a rung, and return whether it goes on.

        Args:
            number: Number of the trial.
            overrides: Configuration of the trial.
            rung: Rung to reach, from 0; one that was reached before is answered at once.

        Returns:
            `status` of the trial after the rung, `reason` if it ended there, `objectives` if it got
            there, and `is_out_of_budget`.
        """
        if self._watch is None:
            self._watch = asyncio.create_task(self._follow())
        # A trial that was started again asks again, while its first question is still open.
        return await self._reaches.do(
            f"{number}/{rung}", lambda: self._reach(number, overrides, rung)
        )

    async def _reach(self, number: int, overrides: Mapping[str, Any], rung: int) -> Answer:
        trial = self._begin(number, overrides)
        if trial["status"] != "running":
            return _answer(trial)
        if rung < len(trial["reached"]):
            return _answer(trial, rung)
        try:
            plan = await self._plan(trial)
            experts = await self._train(trial, plan, rung)
            judged = await self._judge(trial, plan, experts)
        except BudgetSpentError as error:
            return self._end(trial, "stopped", str(error)) | {"is_out_of_budget": True}
        except (ExpertreeError, RayError) as error:
            return self._end(trial, "failed", _sentence(error))
        finally:
            await self._requests.let_go(number)
        return self._note(trial, rung, judged)

    async def state(self) -> dict[str, Any]:
        """Return all trials and experts as they are now, and the hours of training so far."""
        await asyncio.to_thread(self._state.refresh)
        return {
            "trials": [trial for _, trial in sorted(self._state.trials.items())],
            "experts": self._state.experts(),
            "hours": self._state.hours(),
        }

    async def give_up(self, reason: str) -> None:
        """Fail all trials that wait for lanes, because there are none any more."""
        self._requests.give_up(reason)

    def _begin(self, number: int, overrides: Mapping[str, Any]) -> Trial:
        trial = self._state.trials.get(number)
        if trial is None:
            groups = overrides.get(GROUPS)
            trial = Trial(
                number=number,
                shape=shape_in_words(groups) if groups else "",
                parameters=flatten(overrides, num_experts=None),
                overrides=dict(overrides),
                status="waiting",
                reason=None,
                reached=[],
                objectives=None,
                tree=[],
                experts=[],
                trained_hours=0.0,
                begin_s=self._now(),
                end_s=None,
            )
        if trial["status"] == "waiting":
            trial = {**trial, "status": "running", "reason": None, "end_s": None}
            self._state.save(trial)
        return trial

    async def _plan(self, trial: Trial) -> TrialPlan:
        """Plan a trial's tree and experts; trials that differ only in routers share a plan."""
        overrides = trial["overrides"]
        shared = {key: own for key, own in overrides.items() if not key.startswith("router.")}
        key = fingerprint(shared)
        if key not in self._planned:

            async def make() -> TrialPlan:
                # One at a time: each writes shards with workers of its own, and several, each with
                # some of the workers that it needs, would wait for each other for ever.
                async with self._planning:
                    found: TrialPlan = await tasks.plan.remote(self._setup, shared)
                    return found

            self._planned[key] = await self._plans.do(key, make)
        plan = self._planned[key]
        for need in plan.needs:
            self._state.plan_expert(
                need.key,
                label=need.label,
                num_samples=need.num_samples,
                in_store=need.stops[-1].result.is_done(),
            )
        served = {need.key for need in plan.needs if need.served}
        trial["tree"], trial["experts"] = list(plan.tree), [need.key for need in plan.needs]
        trial["parameters"] = flatten(overrides, num_experts=len(served))
        trial["measured"] = {**plan.measured}
        groups = [len([n for n in plan.tree if n["level"] == level]) for level in _levels(plan)]
        trial["shape"] = trial["shape"] or shape_in_words(groups)
        self._state.save(trial)
        return plan

    async def _train(self, trial: Trial, plan: TrialPlan, rung: int) -> dict[int, Storage]:
        """Wait until all experts of a trial are at a rung, or further, and scored.

        Returns:
            The experts' places in the store, by node.
        """
        needs = {need.key: need for need in plan.needs}
        waiting = [
            asyncio.ensure_future(self._bring(trial["number"], needs, need, rung))
            for need in plan.needs
        ]
        try:
            found = await asyncio.gather(*waiting)
        finally:
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
        return {need.node: own for need, own in zip(plan.needs, found, strict=True)}

    async def _bring(
        self, number: int, needs: Mapping[str, ExpertNeed], need: ExpertNeed, rung: int
    ) -> Storage:
        """Have an expert trained to a rung or further and scored; return its place in the store."""
        stop = self._standing(need, rung)
        if stop is None:
            await self._requests.have(
                number, lambda: self._to_ask(needs, need, self._target(need, rung))
            )
            stop = self._standing(need, rung)
        if stop is None:
            raise TrainingError(f"{need.label}: it was trained, but is not in the store")
        at = need.stops[stop]
        if not all(column.is_done() for column in at.columns.values()):
            await self._requests.have(number, lambda: [at.score])
        return at.result

    def _standing(self, need: ExpertNeed, rung: int) -> int | None:
        """Return the rung that the store has of an expert: `rung`, else the last, else None."""
        for place in (rung, len(need.stops) - 1):
            if need.stops[place].result.is_done():
                return place
        return None

    def _target(self, need: ExpertNeed, rung: int) -> int:
        """Return the rung to train to: the next, from `rung`, that was asked for, else `rung`."""
        under_way = [
            place
            for place in range(rung, len(need.stops))
            if self._requests.is_open(need.stops[place].key)
        ]
        return min(under_way, default=rung)

    def _to_ask(
        self, needs: Mapping[str, ExpertNeed], need: ExpertNeed, target: int
    ) -> list[TrainingTask]:
        """Return the task that brings an expert to a rung, after the tasks of its ancestors."""
        after = [stop.key for stop in need.stops[:target] if stop.key in self._requests]
        tasks = []
        if need.parent is not None and need.parent in needs:
            parent = needs[need.parent]
            last = len(parent.stops) - 1
            if not parent.stops[last].result.is_done():
                tasks = self._to_ask(needs, parent, last)
                after.append(tasks[-1].key)
        at = need.stops[target]
        self._budget(at.key)
        self._trained.add(at.key)
        return [*tasks, _after(at.train, after)]

    def _budget(self, key: str) -> None:
        """Raise `BudgetSpentError` if the hours are spent, unless the task was asked for before."""
        if self._budget_hours is None or key in self._requests:
            return
        spent = self._overspent()
        if spent is not None:
            raise spent

    def _overspent(self) -> BudgetSpentError | None:
        spent, budget = self._state.hours(), self._budget_hours
        if budget is None or spent < budget:
            return None
        return BudgetSpentError(
            f"the budget of {budget:g} hours is spent ({spent:.3g}); the same command with a "
            "larger one goes on"
        )

    async def _keep_to_budget(self) -> None:
        """Withdraw the tasks that no lane has begun, once the hours are spent."""
        await asyncio.to_thread(self._state.refresh)
        spent = self._overspent()
        if spent is None:
            return
        await self._requests.take_back(self._trained, spent)

    async def _follow(self) -> None:
        """Poll the dispatcher for the outcome of tasks, for as long as the registry lives.

        If polls keep failing, the trials that wait fail too: they would wait for ever.
        """
        num_failures = 0
        while True:
            try:
                self._requests.hear(await self._dispatcher.status.remote())
                if self._budget_hours is not None:
                    await self._keep_to_budget()
                num_failures = 0
            except ActorDiedError:
                await self.give_up("the dispatcher of the lanes has died; run the same command")
            except Exception as error:
                num_failures += 1
                if num_failures == 1:
                    logger.exception("the lanes cannot be followed; trying again")
                if num_failures >= _MOST_FAILURES:
                    why = f"the lanes cannot be followed ({_sentence(error)}); run the same command"
                    await self.give_up(why)
            await asyncio.sleep(POLL_S)

    async def _judge(
        self, trial: Trial, plan: TrialPlan, experts: Mapping[int, Storage]
    ) -> TrialResult:
        overrides, placed = trial["overrides"], sorted(experts.items())
        in_full = {need.node: need.num_samples for need in plan.needs}

        async def make() -> TrialResult:
            found: TrialResult = await tasks.judge.remote(self._setup, overrides, placed, in_full)
            return found

        key = fingerprint([dict(overrides), [(node, own.uri) for node, own in placed]])
        return await self._judgements.do(key, make)

    def _note(self, trial: Trial, rung: int, judged: TrialResult) -> Answer:
        """Record what a trial has reached, and decide whether it goes on."""
        objectives = Objectives(
            psnr_in=round(judged.psnr_in, 4),
            psnr_out=round(judged.psnr_out, 4),
            gpu_hours=round(judged.gpu_hours, 6),
        )
        others = [
            value_of(other["reached"][rung]["objectives"])
            for other in self._state.trials.values()
            if other["number"] != trial["number"] and len(other["reached"]) > rung
        ]
        value, is_last = value_of(objectives), rung == len(self._fractions) - 1
        lets_on = is_last or goes_on(value, others, reduction=self._reduction)
        reached = RungResult(
            rung=rung,
            fraction=self._fractions[rung],
            objectives=objectives,
            best_level_in=round(judged.best_level_in, 4),
            best_level_out=round(judged.best_level_out, 4),
            at_s=self._now(),
            goes_on=None if is_last else lets_on,
        )
        trial["reached"] = [*trial["reached"], reached]
        trial["objectives"] = objectives
        trial["measured"] = {**trial.get("measured", {}), **judged.measured}
        if is_last:
            return self._end(trial, "completed", None)
        if not lets_on:
            reason = why_stopped(rung, self._fractions[rung], value, others)
            return self._end(trial, "stopped", reason)
        self._state.save(trial)
        return _answer(trial, rung)

    def _end(self, trial: Trial, status: Any, reason: str | None) -> Answer:  # noqa: ANN401
        trial["status"], trial["reason"], trial["end_s"] = status, reason, self._now()
        self._state.save(trial)
        return _answer(trial)

    def _now(self) -> float:
        return round(time.time() - self._begin_s, 2)


class RegistryActor(Registry):
    """The registry as an actor, which Ray restarts when it dies.

    It finds the dispatcher by name: Ray may lose a handle among the arguments of an actor before
    that is started again.
    """

    def __init__(self, setup: PackedSetup, dispatcher: str, **settings: Any) -> None:
        """Find the dispatcher by its name; for `settings` see `Registry`."""
        super().__init__(setup, ray.get_actor(dispatcher, namespace=NAMESPACE), **settings)


def _answer(trial: Trial, rung: int = -1) -> Answer:
    """Return the answer to a trial: what it has reached at a rung, by default its last one."""
    reached = trial["reached"][rung] if trial["reached"] else None
    return {
        "status": trial["status"],
        "reason": trial["reason"],
        "objectives": None if reached is None else reached["objectives"],
        "is_out_of_budget": False,
    }


def _levels(plan: TrialPlan) -> list[int]:
    return sorted({node["level"] for node in plan.tree})


def _after(task: TrainingTask, keys: Sequence[str]) -> TrainingTask:
    return dataclasses.replace(task, after=tuple(keys))


def _sentence(error: Exception) -> str:
    """Return an error as a sentence; for an error from a task, that of its cause."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    if isinstance(cause, ExpertreeError):
        return str(cause)
    return f"{type(cause).__name__}: {cause}".strip().splitlines()[-1]
