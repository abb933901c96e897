"""A search as a page."""

import copy
import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from expertree.search.figures import axes
from expertree.search.record import Search
from expertree.search.write import render_search

EXAMPLE = Path(__file__).parents[1] / "search" / "example_search.json"


class Page(HTMLParser):
    """Attributes and text of a page; every element is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.attributes: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in {"meta", "br"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def values(self, name: str) -> list[str]:
        return [value for attribute, value in self.attributes if attribute == name]


@pytest.fixture
def record() -> Search:
    return json.loads(EXAMPLE.read_text())


@pytest.fixture(scope="module")
def html() -> str:
    return page_of(json.loads(EXAMPLE.read_text()))


def page_of(record: Any) -> str:
    return render_search(record)["search.html"].decode()


def words(html: str) -> str:
    text = re.sub(r"<(script|style).*?</\1>", " ", html, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text))


def test_the_page_needs_nothing_but_itself(html: str) -> None:
    page = Page(html)
    assert not page.values("src")
    assert all(value.startswith("#") for value in page.values("href"))
    names = page.values("id")
    assert len(names) == len(set(names))
    assert {value[1:] for value in page.values("href")} <= set(names)
    (policy,) = [value for value in page.values("content") if "default-src" in value]
    assert policy.startswith("default-src 'none';")


def test_it_says_what_to_build_and_with_which_command(record: Search, html: str) -> None:
    best = next(b for b in record["best"] if b["objective"] == "mean")
    trial = record["trials"][best["trial"]]
    said = words(html.split("</header>", maxsplit=1)[0])
    assert f"What to build best mean of both PSNRs {trial['shape']}" in said
    assert f"{trial['objectives']['psnr_in']:.2f} dB in" in said
    assert record["best_command"] in said


def test_it_says_that_a_grid_was_not_searched_whole(record: Search, html: str) -> None:
    assert "the grid has" not in words(html)
    part = {**record, "searcher": "grid", "size": 30, "num_trials": 24}
    said = words(page_of(part).split("</header>", maxsplit=1)[0])
    assert f"{len(record['trials'])} of 24 trials (the grid has 30): " in said


def test_it_says_what_sharing_saved(record: Search, html: str) -> None:
    cost = record["cost"]
    times = cost["naive_trainings"] / cost["shared_trainings"]
    assert f"{times:.1f} times fewer trainings" in words(html)
    assert f"alone would have trained {cost['naive_trainings']}" in words(html)


def test_it_says_where_nothing_was_shared(record: Search) -> None:
    cost = record["cost"]
    alone = {**record, "cost": {**cost, "naive_trainings": cost["shared_trainings"]}}
    said = words(page_of(alone))
    assert "No two trees had an expert in common" in said
    assert "times fewer" not in said


def test_every_trial_stands_in_the_table_with_its_reason(record: Search, html: str) -> None:
    table = words(html.split('<table class="trials">', maxsplit=1)[1])
    for trial in record["trials"]:
        assert f"#{trial['number']} " in table
        assert f" {trial['shape']} " in table
        assert trial["reason"] is None or trial["reason"] in table.replace("&#39;", "'")


def test_failures_are_named_before_everything_else(record: Search, html: str) -> None:
    failed = [trial for trial in record["trials"] if trial["status"] == "failed"]
    head = words(html.split("</header>", maxsplit=1)[0]).replace("&#39;", "'")
    assert f"{len(failed)} trial failed" in head
    assert failed[0]["reason"] in head


def test_trees_on_the_front_are_drawn_a_box_for_each_group(record: Search, html: str) -> None:
    front = html.split('<ol class="front">', maxsplit=1)[1].split("</ol>", maxsplit=1)[0]
    trials = [record["trials"][number] for number in record["pareto"]]
    assert front.count("<i ") == sum(len(trial["tree"]) for trial in trials)
    cut = sum(not node["served"] for trial in trials for node in trial["tree"])
    assert front.count('class="cut"') == cut


def test_importance_stands_beside_what_chance_would_give(record: Search, html: str) -> None:
    section = html.split('id="importance"', maxsplit=1)[1].split("</section>", maxsplit=1)[0]
    assert section.count('class="weight ') == len(record["importance"])
    for one in record["importance"]:
        assert f"left: {100 * one['chance']:.1f}%" in section
        assert f'class="weight {one["trust"]}"' in section


def test_axes_have_a_place_for_every_value_and_none_where_there_is_none(record: Search) -> None:
    by_key = {axis.key: axis for axis in axes(record)}
    for key in ("tree.k2", "router.alpha"):
        has = [key in trial["parameters"] for trial in record["trials"]]
        assert [place is not None for place in by_key[key].places] == has
    for axis in by_key.values():
        assert all(0 <= place <= 1 for place in axis.places if place is not None)
        assert all(0 <= place <= 1 for place, _ in axis.ticks)
    assert [axis.key for axis in axes(record)][-3:] == ["gpu_hours", "psnr_in", "psnr_out"]


def test_numbers_far_apart_lie_on_a_logarithmic_axis(record: Search) -> None:
    record["parameters"] = ["x"]
    for trial, value in zip(record["trials"], (0.001, 0.01, 0.1, *[0.1] * 9), strict=False):
        trial["parameters"] = {"x": value}
    (axis,) = [axis for axis in axes(record) if axis.key == "x"]
    assert axis.places[:3] == [0.0, 0.5, 1.0]


def test_words_lie_on_an_axis_of_their_own(record: Search) -> None:
    record["parameters"] = ["hierarchy.method"]
    for number, trial in enumerate(record["trials"]):
        trial["parameters"] = {"hierarchy.method": ("kmeans", "bisecting")[number % 2]}
    (axis,) = [axis for axis in axes(record) if axis.key == "hierarchy.method"]
    assert axis.ticks == [(0.0, "bisecting"), (1.0, "kmeans")]
    assert axis.places[:2] == [1.0, 0.0]


def test_a_search_that_has_just_begun_has_a_page(record: Search) -> None:
    record.update(trials=[], experts=[], pareto=[], importance=[], best=[], best_command=None)
    record["cost"].update(shared_trainings=0, naive_trainings=0, shared_hours=0.0, naive_hours=0.0)
    record["cost"].update(naive_full_hours=0.0, budget_hours=None)
    html = page_of(record)
    Page(html)
    assert len(html) < 60_000


def test_a_trial_without_a_tree_or_a_result_has_a_line(record: Search) -> None:
    trial = copy.deepcopy(record["trials"][0])
    trial.update(status="failed", reason="no lane is left", reached=[], objectives=None, tree=[])
    record["trials"][0] = trial
    Page(page_of(record))


def test_text_of_a_search_is_never_markup(record: Search) -> None:
    attack = "</script><script>alert(1)</script>"
    record["title"] = attack
    record["trials"][0].update(status="failed", reason=attack, shape=attack)
    assert "<script>alert" not in page_of(record)


def test_trials_are_also_a_table_for_other_programs(record: Search) -> None:
    text = render_search(record)["trials.csv"].decode()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [int(row["trial"]) for row in rows] == [t["number"] for t in record["trials"]]
    trial = record["trials"][1]
    assert float(rows[1]["psnr_in"]) == trial["objectives"]["psnr_in"]
    assert float(rows[1]["router.alpha"]) == trial["parameters"]["router.alpha"]
    assert [int(row["trial"]) for row in rows if row["front"] == "1"] == list(record["pareto"])
