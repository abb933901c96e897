"""From a command line to a configuration: which keys there are, and what wrong ones are told."""

import dataclasses
import os
import shlex
import sys
from pathlib import Path

import pytest

from expertree.cli.composing import CONF, compose, spell_out
from expertree.errors import ConfigError
from expertree.experts.backbones import BackboneConfig, backbone_config
from expertree.experts.backbones.promptir import PromptIRConfig
from expertree.experts.backbones.restormer import RestormerConfig
from expertree.pipeline.settings import BuildConfig
from expertree.search.space import SPACES
from expertree.storage import Storage


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Section:
    rank: int = 8


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class _Config:
    bench: str = "overhead"
    size: int = 1
    section: _Section | None = None
    dry_run: bool = False


def composed(*arguments: str) -> _Config | None:
    return compose(_Config, arguments, verb="bench", config_name="bench")


def test_a_flag_that_people_know_is_a_setting() -> None:
    assert composed("--dry-run", "size=2") == _Config(dry_run=True, size=2)


def test_settings_may_stand_on_both_sides_of_options(tmp_path: Path) -> None:
    folder = tmp_path / "a=b"
    folder.mkdir()
    (folder / "mine.yaml").write_text("defaults:\n  - bench_defaults\n  - _self_\n")
    options = ["--config-dir", str(folder), "--dry-run", "--config-name=mine"]
    assert composed("bench=shard", *options, "size=2") == _Config(
        bench="shard", dry_run=True, size=2
    )


@pytest.mark.parametrize("form", ["--config-dir={}", "--config-dir {}", "-cd {}"])
def test_yaml_in_a_bucket_is_read_like_that_in_a_folder(tmp_path: Path, form: str) -> None:
    uri = f"file://{tmp_path}/out"
    options = [*form.format(uri).split(), "--config-name", "best"]
    with pytest.raises(ConfigError, match=r"--config-dir file://.*/out: there is no YAML file"):
        composed(*options)
    best = "defaults:\n  - bench_defaults\n  - _self_\nsize: 7\n"
    Storage.open(uri).write_bytes("best.yaml", best.encode())
    assert composed(*options, "bench=shard") == _Config(bench="shard", size=7)


def test_a_key_below_a_section_that_is_null_opens_it() -> None:
    assert composed("section.rank=4") == _Config(section=_Section(rank=4))


def test_flags_that_people_are_used_to_are_overrides() -> None:
    assert spell_out(["a=1", "--dry-run", "--budget", "2", "--cfg", "job"]) == [
        "a=1",
        "dry_run=true",
        "search.budget_hours=2",
        "--cfg",
        "job",
    ]
    assert spell_out(["--budget=0.5"]) == ["search.budget_hours=0.5"]
    with pytest.raises(ConfigError, match=r"--budget needs a value"):
        spell_out(["--budget"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["sise=2"], "unknown configuration key 'sise'; did you mean 'size'?"),
        (["size=[1"], "the command line: "),
        (["overhead"], "the command line: "),
        (["size=${oc.env:NO_SUCH_VARIABLE}"], "NO_SUCH_VARIABLE"),
        (["size=many"], "'size' = 'many'"),
        (["--config-dir", "no/such/folder"], "no/such/folder' not found"),
        (["--config-name", "bensh"], "there is no bensh"),
        (["--multirun", "size=1,2"], "--multirun is not supported"),
        (["hydra.job.nmae=a"], "nmae"),
    ],
)
def test_what_is_wrong_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError) as error:
        composed(*arguments)
    assert sentence in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert capsys.readouterr() == ("", "")


def test_a_misspelt_experiment_is_told_which_there_are() -> None:
    with pytest.raises(
        ConfigError,
        match=r"there is no experiment/dmeo; there are compare_demo, compare_small, demo, demo_",
    ):
        compose(BuildConfig, ["experiment=dmeo"], verb="build", config_name="build_tree")


def test_hydras_own_arguments_may_only_print(capsys: pytest.CaptureFixture[str]) -> None:
    assert composed("size=3", "--cfg", "job") is None
    assert "size: 3" in capsys.readouterr().out


def test_the_process_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    arguments, environment = list(sys.argv), dict(os.environ)
    composed("size=2")
    assert (sys.argv, dict(os.environ)) == (arguments, environment)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("settings", ["", "\nhydra:\n  output_subdir: null\n  run:\n    dir: .\n"])
@pytest.mark.parametrize("quiet", ["", "  - override hydra/job_logging: none\n"])
def test_a_users_own_file_leaves_no_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: str, quiet: str
) -> None:
    """Best trees of earlier searches have Hydra's settings in their file, today's have not."""
    monkeypatch.chdir(tmp_path)
    head = f"defaults:\n  - bench_defaults\n  - _self_\n{quiet}"
    (tmp_path / "mine.yaml").write_text(f"{head}\nsize: 7\n{settings}")
    found = composed("--config-dir", ".", "--config-name", "mine", "dry_run=true")
    assert found == _Config(size=7, dry_run=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_hydras_settings_may_still_be_given(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    composed("hydra.run.dir=here", "hydra/job_logging=default")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_what_the_package_needs_of_the_clone_lies_in_it() -> None:
    assert (CONF / "experiment" / "demo.yaml").is_file()
    clone = Path(__file__).parents[3] / "search_spaces"
    assert SPACES.resolve() == clone.resolve()
    assert (SPACES / "granularity.yaml").is_file()


def network(*arguments: str) -> BackboneConfig:
    found = compose(BuildConfig, arguments, verb="build", config_name="build_tree")
    assert found is not None
    return found.experts.backbone


def test_a_name_on_the_command_line_comes_with_its_own_sizes(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "defaults: [build_defaults, _self_]\n"
        "experts: {backbone: {name: nafnet_gopro, width: 8, middle: 2}}\n"
    )
    mine = ("--config-dir", str(tmp_path), "--config-name", "mine")
    assert network(*mine) == backbone_config("nafnet_gopro", width=8, middle=2)
    assert network(*mine, "experts.backbone.middle=3").middle == 3  # type: ignore[attr-defined]
    for name in ("experts.backbone.name=restormer", "experts.backbone={name: restormer}"):
        assert network(*mine, name) == RestormerConfig()
    for order in (1, -1):
        pair = ["experts.backbone.name=promptir", "experts.backbone.prompt_widths=[64,24,8]"]
        assert network(*mine, *pair[::order]) == PromptIRConfig(prompt_widths=(64, 24, 8))
    small = ["experts.backbone.name=moce_ir_small", "experts.backbone.gate=output"]
    assert network(*small) == backbone_config("moce_ir_small", gate="output")


def test_yaml_lays_a_network_over_the_default_one(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "defaults: [build_defaults, _self_]\nexperts: {backbone: {name: restormer, width: 24}}\n"
    )
    found = network("--config-dir", str(tmp_path), "--config-name", "mine")
    assert found == RestormerConfig(width=24)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["prompt_widths=[1,2,3]"], "'nafnet' has no 'prompt_widths'; did you mean 'width'?"),
        (["name=promptir", "prompt_width=[1]"], "'promptir' has no 'prompt_width'; did you mean"),
        (["name=restormr"], "there is no backbone 'restormr'; did you mean 'restormer'?"),
    ],
)
def test_a_size_that_a_network_does_not_have_is_named(arguments: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as error:
        network(*(f"experts.backbone.{argument}" for argument in arguments))
    assert sentence in str(error.value)
    assert str(error.value).startswith("configuration: 'experts.backbone' = ")


@pytest.mark.parametrize(
    ("argument", "advice"),
    [
        ("bench=/x/My Photos (2020)", """'bench="/x/My Photos (2020)"'"""),
        ("bench=it's", """'bench="it'"'"'s"'"""),
    ],
)
def test_a_value_that_wants_quotes_is_told_so_and_is_right_in_them(argument, advice) -> None:
    with pytest.raises(ConfigError, match="put it in quotes: ") as caught:
        composed(argument)
    assert str(caught.value).endswith(advice)
    (given,) = shlex.split(advice)
    assert composed(given) == _Config(bench=argument.partition("=")[2])
