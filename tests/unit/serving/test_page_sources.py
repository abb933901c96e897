"""What the page's files promise, without a browser."""

import graphlib
import re
from importlib import resources

import pytest

PAGE = resources.files("expertree.serving") / "page"
HTML = ("index.html", "docs.html")
SOURCES = sorted(
    file.name for file in PAGE.iterdir() if file.name.endswith((".html", ".css", ".js", ".svg"))
)


def read(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")


def imported(name: str) -> set[str]:
    """The scripts that a script takes something from."""
    return set(re.findall(r'from "\./([^"]+)"', read(name)))


@pytest.mark.parametrize("name", HTML)
def test_nothing_stands_inline_that_a_strict_policy_forbids(name: str) -> None:
    assert re.findall(r"<script(?![^>]* src=)|<style|\sstyle=|\son\w+=", read(name)) == []


@pytest.mark.parametrize("name", SOURCES)
def test_nothing_is_asked_of_another_host(name: str) -> None:
    hosts = set(re.findall(r"https?://([\w.-]+)", read(name)))
    assert hosts <= {"www.w3.org"}


def test_every_file_that_is_named_is_there() -> None:
    named = {own for name in HTML for own in re.findall(r'"page/([^"]+)"', read(name))}
    named |= {own for name in SOURCES for own in imported(name)}
    named |= {f"{own}.jpg" for own in re.findall(r'photo: "(\w+)"', read("examples.js"))}
    assert {name for name in named if not (PAGE / name).is_file()} == set()
    assert {"page.css", "page.js", "api.js", "chelsea.jpg"} <= named


def test_every_script_is_used_and_none_by_what_it_uses() -> None:
    scripts = {name: imported(name) for name in SOURCES if name.endswith(".js")}
    begun = {own for name in HTML for own in re.findall(r'"page/([^"]+\.js)"', read(name))}
    used = begun.union(*scripts.values())
    assert scripts.keys() - used == set()
    order = list(graphlib.TopologicalSorter(scripts).static_order())
    assert order.index("dom.js") < order.index("page.js")
