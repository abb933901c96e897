import json
from pathlib import Path
from typing import Any

import pytest

from expertree.search.summary import SearchFacts, best_trial, cost, summarise

EXAMPLE = json.loads((Path(__file__).parent / "example_search.json").read_text())
ABOUT = SearchFacts(
    title="Mine",
    space="granularity",
    searcher="grid",
    created="2026-01-01T00:00:00+00:00",
    commit=None,
    num_starts=1,
    size=9,
    num_trials=9,
    fractions=(0.25, 0.5, 1.0),
    budget_hours=None,
    best_command="build it",
    unit="CPU",
)


def record() -> Any:
    return summarise(ABOUT, EXAMPLE["trials"], EXAMPLE["experts"], status="done", seconds=1.0)


def test_each_expert_counts_once_shared_and_for_every_trial_alone() -> None:
    found = cost(EXAMPLE["trials"], EXAMPLE["experts"], budget_hours=None)
    came_somewhere = [t for t in EXAMPLE["trials"] if t["reached"]]
    assert found["shared_trainings"] == len(EXAMPLE["experts"])
    assert found["naive_trainings"] == sum(len(t["experts"]) for t in came_somewhere)
    assert found["naive_hours"] < found["naive_full_hours"]


def test_an_expert_that_was_in_the_store_costs_nobody() -> None:
    stored = [{**expert, "in_store": True} for expert in EXAMPLE["experts"]]
    found = cost(EXAMPLE["trials"], stored, budget_hours=None)
    assert (found["shared_trainings"], found["naive_trainings"]) == (0, 0)


def test_the_best_is_completed_and_the_cheapest_is_of_its_own() -> None:
    found = record()
    best = best_trial(EXAMPLE["trials"])
    assert best is not None
    by_objective = {own["objective"]: own["trial"] for own in found["best"]}
    assert by_objective["mean"] == best["number"]
    assert by_objective == {own["objective"]: own["trial"] for own in EXAMPLE["best"]}
    assert found["pareto"] == EXAMPLE["pareto"]


def test_hours_of_an_expert_belong_to_the_first_trial_that_needed_it() -> None:
    found = record()
    spent = sum(expert["hours"] for expert in found["experts"])
    owned = sum(trial["trained_hours"] for trial in found["trials"])
    assert owned == pytest.approx(spent, abs=1e-4)


def test_a_search_without_a_completed_trial_has_a_record() -> None:
    found = summarise(ABOUT, [], [], status="running", seconds=0.0)
    assert (found["best"], found["pareto"], found["best_command"]) == ([], [], None)
