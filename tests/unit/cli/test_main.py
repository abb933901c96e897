"""The program without its verbs: what it lists, how soon, and what a wrong verb is told."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import expertree
from expertree.cli import bench
from expertree.cli.main import VERBS, main

PACKAGE = Path(expertree.__file__).parent
JOBS = Path(__file__).parents[3] / "jobs"

# In a process of its own: this one has imported everything.
HELP = """
import json, sys, time
before_s, modules = time.process_time(), set(sys.modules)
from expertree.cli.main import main
assert main(["--help"]) == 0
seconds = time.process_time() - before_s
loaded = {name.partition(".")[0] for name in set(sys.modules) - modules}
print(json.dumps({"seconds": seconds, "loaded": sorted(loaded)}))
"""


def test_help_lists_every_verb_with_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    lines = [line.split(maxsplit=1) for line in said.out.splitlines() if line.startswith("  ")]
    assert dict(lines) == VERBS


def test_help_is_there_at_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HELP], check=True, capture_output=True, text=True, timeout=60
    )
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["seconds"] < 0.3
    assert {"torch", "ray", "hydra", "numpy", "pydantic"}.isdisjoint(found["loaded"])


@pytest.mark.parametrize(
    ("verb", "hint"),
    [
        ("bild", "did you mean 'build'?"),
        ("Restore", "did you mean 'restore'?"),
        ("evalute", "did you mean 'evaluate'?"),
        (
            "xyz",
            (
                "there are build, search, status, restore, serve, evaluate, bench, compare, study, "
                "export, dashboard, completion"
            ),
        ),
    ],
)
def test_an_unknown_verb_is_told_the_nearest_one(
    capsys: pytest.CaptureFixture[str], verb: str, hint: str
) -> None:
    assert main([verb, "experiment=demo"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"error: '{verb}' is no verb of expertree; {hint}\n"


def test_no_verb_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "expertree VERB" in said.err


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"expertree {expertree.__version__}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_is_a_module_that_begins_with_its_line(verb: str) -> None:
    source = ast.parse((PACKAGE / "cli" / f"{verb}.py").read_text())
    assert (ast.get_docstring(source) or "").splitlines()[0] == VERBS[verb]
    assert "main" in {node.name for node in source.body if isinstance(node, ast.FunctionDef)}


def test_each_job_runs_one_verb() -> None:
    run = {
        node.module.removeprefix("expertree.cli.")
        for path in JOBS.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert run == set(VERBS) - {"completion"}  # which is of no use to a cluster


def test_a_verbs_help_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help", "bench=shard", "shard.num_patches=77"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert bench.__doc__ in f"{said.out}\n"
    assert "--config-dir" in said.out
    assert "--dry-run" not in said.out
    assert "num_patches: 77" in said.out


def test_the_help_of_restore_says_what_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["restore", "--help"])
    said = capsys.readouterr().out
    assert said.startswith("usage: expertree restore ")
    assert "--strength" in said


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["bench", "bensh=shard"], 2, "unknown configuration key 'bensh'; did you mean 'bench'?"),
        (["bench", "bench=nothing"], 2, "bench='nothing' does not exist"),
        (["evaluate"], 2, "give dataset=... and root=..."),
        (["study", "output=file/below"], 1, "cannot be written"),
        (["restore", "-i", "nothing.jpg", "-o", "there.jpg"], 2, "nothing.jpg"),
    ],
)
def test_errors_are_a_sentence_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    code: int,
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert sentence in said.err
    assert len(said.err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("arguments", [["--help"], ["study", "--help"]])
def test_a_reader_that_leaves_early_is_no_reason_for_a_traceback(arguments: list[str]) -> None:
    ask = "import sys; from expertree.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", ask, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, told = process.communicate(timeout=100)
    assert told == b""
    assert process.returncode == 1
