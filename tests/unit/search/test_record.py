import json
from pathlib import Path
from typing import Any

from expertree.search.record import (
    Best,
    Cost,
    Expert,
    Importance,
    Node,
    Objectives,
    RungResult,
    Search,
    Trial,
)

EXAMPLE: Any = json.loads((Path(__file__).parent / "example_search.json").read_text())


def test_the_example_that_reports_are_tested_with_has_every_key_of_the_record() -> None:
    trials = EXAMPLE["trials"]
    reached = [own for trial in trials for own in trial["reached"]]
    parts: dict[Any, list[Any]] = {
        Search: [EXAMPLE],
        Trial: trials,
        Expert: EXAMPLE["experts"],
        Cost: [EXAMPLE["cost"]],
        Importance: EXAMPLE["importance"],
        Best: EXAMPLE["best"],
        Node: [node for trial in trials for node in trial["tree"]],
        RungResult: reached,
        Objectives: [own["objectives"] for own in reached],
    }
    for kind, entries in parts.items():
        assert entries
        for keys in map(frozenset, entries):
            assert kind.__required_keys__ <= keys <= frozenset(kind.__annotations__)


def test_the_examples_numbers_fit_together() -> None:
    numbers = {trial["number"] for trial in EXAMPLE["trials"]}
    assert set(EXAMPLE["pareto"]) <= numbers
    assert {key for trial in EXAMPLE["trials"] for key in trial["experts"]} == {
        expert["key"] for expert in EXAMPLE["experts"]
    }
