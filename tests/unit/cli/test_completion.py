"""What Tab completes: in a bash, by the script that the program prints for it."""

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from expertree.batch.arguments import make_parser
from expertree.cli.composing import CONF
from expertree.cli.main import VERBS, main
from expertree.cli.shells import SCRIPTS, VerbWords
from expertree.cli.words import every_verb
from expertree.pipeline.settings import BuildConfig
from expertree.restorer.engines import EngineName
from expertree.studies.registry import STUDIES

# Completes what is typed, broken into words as bash does it, in a shell where nothing can be run.
ASK = """
source {script}
PATH=/nowhere
COMP_WORDS=({words}) COMP_CWORD={number}
_expertree
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture(scope="module")
def verbs() -> tuple[VerbWords, ...]:
    return every_verb()


@pytest.fixture(scope="module")
def script(verbs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "expertree.bash"
    path.write_text(SCRIPTS["bash"](verbs))
    return path


@pytest.fixture
def complete(script: Path):
    """The words that bash offers after those that are typed; the last may be empty."""

    def completed(*words: str) -> list[str]:
        typed = " ".join(shlex.quote(word) for word in ("expertree", *words))
        ask = ASK.format(script=script, words=typed, number=len(words))
        done = subprocess.run(
            ["bash", "--norc", "-c", ask], capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stderr == ""
        return done.stdout.split()

    return completed


def test_verbs_are_completed(complete) -> None:
    assert complete("") == list(VERBS)
    assert complete("re") == ["restore"]
    assert complete("nothing") == []


def test_options_are_those_of_the_parser_and_so_are_their_choices(complete) -> None:
    offered = set(complete("restore", "--"))
    taken = make_parser("restore", "").format_help()
    assert {"--watch", "--instruction", "--skip-existing", "--help"} < offered
    assert all(f"{option}" in taken for option in offered)
    assert complete("restore", "-i", "a.jpg", "--route") == ["--route-tiles"]
    assert complete("restore", "--engine", "") == list(EngineName.__args__)
    assert complete("restore", "--engine", "=", "o") == ["openvino"]
    assert complete("restore", "--engine=o") == ["--engine=openvino"]
    assert complete("export", "photo-1", "--to", "on") == ["onnx"]
    assert complete("completion", "") == ["-h", "--help", *SCRIPTS]


def test_instructions_are_the_names_that_the_model_knows(complete) -> None:
    assert {"rain", "haze", "noise"} < set(complete("restore", "--instruction", ""))
    assert complete("restore", "--instruction", "sn") == ["snow"]


def test_where_a_path_or_a_number_stands_bash_is_left_to_itself(complete) -> None:
    assert complete("restore", "-o", "") == []
    assert complete("restore", "--watch", "in") == []
    assert complete("restore", "--level", "") == []
    assert complete("build", "output", "=", "ru") == []


def test_settings_are_completed_from_section_to_key(complete) -> None:
    assert "--dry-run" in complete("build", "")
    assert complete("build", "hier") == ["hierarchy."]
    assert complete("build", "hierarchy.gr") == ["hierarchy.groups="]
    assert complete("build", "out") == ["output="]
    assert "lite_restormer" in complete("build", "experts.backbone.name", "=", "")
    assert complete("build", "hierarchy.metric", "=", "ang") == ["angular"]
    assert complete("build", "hierarchy.metric=ang") == ["hierarchy.metric=angular"]
    assert complete("build", "dry_run", "=") == ["true", "false"]
    assert complete("serve", "--dry") == []


def test_experiments_are_those_that_the_verb_can_take(complete) -> None:
    names = {path.stem for path in (CONF / "experiment").glob("*.yaml")}
    build, compare = complete("build", "experiment", "="), complete("compare", "experiment", "=")
    assert {"demo", "photos", "photo_1"} < set(build) < names
    assert set(compare) - set(build) == {"compare_demo", "compare_small"}
    assert complete("serve", "exp") == []


def test_names_of_what_is_run_and_searched_are_known(complete) -> None:
    assert set(complete("study", "study", "=")) == set(STUDIES)
    assert complete("bench", "bench", "=", "eng") == ["engine"]
    assert "granularity" in complete("search", "search_space", "=", "")
    assert complete("evaluate", "dataset", "=", "rain100l") == ["rain100l"]


def test_it_answers_at_once(script: Path) -> None:
    turns = 20
    words = shlex.join(["expertree", "build", "experts.backbone.name", "=", "re"])
    loop = f"source {script}; for ((turn = 0; turn < {turns}; turn++)); do {{\n"
    loop += f"COMP_WORDS=({words}) COMP_CWORD=4\n_expertree\n}}; done; times"
    begin = time.monotonic()
    done = subprocess.run(
        ["bash", "--norc", "-c", loop], capture_output=True, text=True, timeout=60, check=True
    )
    assert (time.monotonic() - begin) / turns < 0.25
    assert done.stderr == ""


def test_help_needs_neither_torch_nor_ray() -> None:
    ask = (
        "import json, sys\nfrom expertree.cli.main import main\n"
        "try:\n    main(['completion', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", ask], capture_output=True, text=True, timeout=60, check=True
    )
    assert {"torch", "ray", "hydra"}.isdisjoint(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("shell", SCRIPTS)
def test_each_shell_has_a_script_with_every_verb_and_key(
    shell: str, capsys: pytest.CaptureFixture[str], verbs
) -> None:
    assert main(["completion", shell]) == 0
    printed = capsys.readouterr().out
    assert printed == SCRIPTS[shell](verbs)
    for word in (*VERBS, "angular", "compare_demo", "hierarchy.groups=", "experiment="):
        assert word in printed
    if shell == "fish":  # one command a line, quoted as in other shells
        assert all(shlex.split(line) for line in printed.splitlines()[1:])
    else:  # what zsh's has of its own is no other syntax
        subprocess.run(["bash", "-n"], input=printed, text=True, timeout=60, check=True)


def test_every_key_that_is_offered_is_a_setting(verbs) -> None:
    build = next(verb for verb in verbs if verb.name == "build")
    fields = set(BuildConfig.__dataclass_fields__) | {"experiment"}
    assert {key.rstrip(".=") for key in build.first_keys} == fields
    assert len(build.inner_keys) > 150
