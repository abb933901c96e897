"""What a search found, for the terminal."""

import json
from pathlib import Path

import pytest

from expertree.search.record import Search
from expertree.search.terminal import search_summary

EXAMPLE = Path(__file__).parents[1] / "search" / "example_search.json"


@pytest.fixture
def record() -> Search:
    return json.loads(EXAMPLE.read_text())


def test_the_front_stands_from_cheap_to_dear(record: Search) -> None:
    lines = search_summary(record, width=120).splitlines()
    numbers = [int(line.split()[0][1:]) for line in lines if line.strip().startswith("#")]
    hours = [record["trials"][number]["objectives"]["gpu_hours"] for number in numbers]
    assert sorted(numbers) == sorted(record["pareto"])
    assert hours == sorted(hours)


def test_it_says_the_counts_the_saving_the_failures_and_the_command(record: Search) -> None:
    said = " ".join(search_summary(record, width=120).split())
    assert "trials 9 of 12: 5 completed, 2 stopped early, 1 failed, 1 running" in said
    assert "31 trained; each tree alone would have trained 101 (3.3 times as many)" in said
    assert record["trials"][7]["reason"] in said
    assert f"build {record['best_command']}" in said


def test_it_says_where_nothing_was_shared(record: Search) -> None:
    record["cost"]["naive_trainings"] = record["cost"]["shared_trainings"]
    said = " ".join(search_summary(record, width=120).split())
    assert "31 trained; each tree alone would have trained 31 (nothing in common)" in said


def test_the_command_is_one_line_however_narrow_the_terminal(record: Search) -> None:
    record["best_command"] = command = "python jobs/build_tree.py " + "--config-name=best " * 9
    assert f"build    {command.strip()}" in search_summary(record, width=60).splitlines()


def test_trees_for_which_nothing_else_was_chosen_have_no_column_for_it(record: Search) -> None:
    assert "chosen" in search_summary(record, width=120)
    record["parameters"] = [key for key in record["parameters"] if key.startswith("tree.")]
    assert "chosen" not in search_summary(record, width=120)


def test_what_may_be_chance_is_not_said_to_matter(record: Search) -> None:
    assert "levels (61 % of PSNR in, weak)" in search_summary(record, width=200)
    for one in record["importance"]:
        one["trust"] = "none"
    assert "matters  nothing clearly" in search_summary(record, width=200)


def test_nothing_found_yet_is_said_too(record: Search) -> None:
    record.update(trials=[], pareto=[], best=[], importance=[], best_command=None)
    record["cost"].update(shared_trainings=0)
    assert search_summary(record) == "trials   0 of 12: none yet"
