"""Rules of the repository that no linter knows."""

import ast
import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import expertree

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "platform" / "expertree"
MOST_README_LINES = 200
MOST_LINES = 400
"""Of a file of Python or a script of a page: what is longer has two subjects."""


def tracked(*patterns: str) -> list[Path]:
    """Files that git tracks or would add, so that a new file is held to the rules at once."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns]
    names = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


def text_lines(paths: list[Path]) -> Iterator[tuple[str, str]]:
    for path in paths:
        data = path.read_bytes()
        if b"\0" in data:
            continue
        for number, line in enumerate(data.decode().splitlines(), start=1):
            yield f"{path.relative_to(ROOT)}:{number}", line


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imported_roots(path: Path) -> set[str]:
    roots = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            roots.add(node.module.split(".")[0])
    return roots


def importers(module: str, paths: list[Path]) -> set[str]:
    return {str(path.relative_to(ROOT)) for path in paths if module in imported_roots(path)}


def test_the_source_root_does_not_shadow_pythons_platform_module() -> None:
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not (ROOT / "tests" / "platform").exists()


def test_tests_are_not_packages() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_unit_tests_mirror_the_package() -> None:
    unit = ROOT / "tests" / "unit"
    folders = {path.parent.relative_to(unit) for path in unit.rglob("test_*.py")}
    homes = (PACKAGE, ROOT / "jobs")  # the manifests of jobs/kubernetes are no part of the package
    strange = {str(own) for own in folders if not any((home / own).is_dir() for home in homes)}
    assert strange == set()


def test_the_top_level_holds_what_the_design_fixed() -> None:
    allowed = {
        *("pyproject.toml", "platform", "jobs", "search_spaces", "serve", "tests", "cluster.yaml"),
        *("README.md", "Makefile", ".ci", "CHANGELOG.md", "docs", "requirements.lock", "LICENSE"),
        *(".gitignore", ".pre-commit-config.yaml"),
    }
    assert {path.relative_to(ROOT).parts[0] for path in tracked()} <= allowed


def test_the_lock_file_names_no_registry() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    assert re.search(r"index-url|find-links|trusted-host", lock) is None


def test_the_lock_file_pins_everything_by_hash() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.split(r"\n(?=[a-zA-Z0-9])", lock)
    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []


def test_no_tracked_file_names_a_path_of_one_machine() -> None:
    machine = re.compile(r"(?<![\w.])/(work|farm|root|home/(?!ray/))[/\"' ]|\.\./shared")
    elsewhere = [path for path in tracked() if path.name != "test_repository.py"]
    found = [place for place, line in text_lines(elsewhere) if machine.search(line)]
    assert [place for place in found if not place.startswith(".ci/")] == []


def test_the_newest_entry_of_the_changelog_is_this_version() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == expertree.__version__


def test_only_orchestration_imports_ray() -> None:
    sources = tracked("platform/*.py", "jobs/*.py", "tests/unit/*.py")
    allowed = ("platform/expertree/orchestration/", "platform/expertree/testing.py")
    assert {path for path in importers("ray", sources) if not path.startswith(allowed)} == set()


def test_only_the_wandb_tracker_imports_wandb() -> None:
    sources = tracked("platform/*.py", "jobs/*.py")
    assert importers("wandb", sources) <= {"platform/expertree/tracking/wandb.py"}


def test_nobody_imports_a_job() -> None:
    assert importers("jobs", tracked("*.py")) == set()


def test_imports_between_layers_point_down() -> None:
    command = [Path(sys.executable).parent / "lint-imports", "--no-cache", "--no-logo"]
    linter = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert linter.returncode == 0, linter.stdout


def test_pre_commit_fetches_nothing() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert {repository["repo"] for repository in config["repos"]} == {"local"}
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {hook["language"] for hook in hooks} == {"system"}


def test_the_readme_is_short_and_names_files_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= MOST_README_LINES
    linked = re.findall(r"\]\(([\w./]+)\)", text)
    shown = re.findall(r"`((?:platform|docs|jobs|serve|search_spaces|tests)/[\w./]*\w)`", text)
    assert linked
    assert [name for name in (*linked, *shown) if not (ROOT / name).exists()] == []


def test_every_module_begins_with_what_it_is_for() -> None:
    modules = tracked("platform/*.py", "jobs/*.py")
    silent = [path for path in modules if not ast.get_docstring(parsed(path))]
    assert [str(path.relative_to(ROOT)) for path in silent] == []


def test_no_file_is_longer_than_one_reads_at_once() -> None:
    modules, scripts = tracked("*.py"), tracked("*.js")
    lengths = {path: len(path.read_text().splitlines()) for path in (*modules, *scripts)}
    assert len(modules) > 500
    assert PACKAGE / "serving/page/page.js" in scripts
    assert {str(path.relative_to(ROOT)) for path, n in lengths.items() if n > MOST_LINES} == set()


@pytest.mark.parametrize("target", ["venv", "demo", "test", "check", "bench", "clean"])
def test_make_explains_the_targets_that_the_readme_names(target: str) -> None:
    listing = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert f"  make {target} " in listing.stdout


def test_an_environment_that_was_moved_with_its_clone_is_made_anew(tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    (clone / ".venv").mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, clone)
    made = f"command = /usr/bin/python3 -m venv {clone}/.venv\n"
    (clone / ".venv/pyvenv.cfg").write_text(f"home = /usr/bin\n{made}")
    (clone / ".venv/.complete").touch()

    def planned() -> str:
        command = ["make", "--dry-run", "venv"]
        return subprocess.run(command, cwd=clone, check=True, capture_output=True, text=True).stdout

    assert "pip" not in planned()
    clone = clone.rename(tmp_path / "elsewhere")
    assert planned().index("rm -rf .venv") < planned().index("-m venv .venv")
