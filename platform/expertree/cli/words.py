"""What can be typed after each verb, as its parser or the dataclass of its settings says."""

import argparse
import importlib
from collections.abc import Iterator

from expertree.cli.composing import experiments
from expertree.cli.main import VERBS
from expertree.cli.running import FLAGS, SettingsVerb
from expertree.cli.shells import Argument, VerbWords
from expertree.config import all_keys, known_values
from expertree.restorer import find_bundle, read_outline
from expertree.restorer.shipped import SHIPPED

_PATH = frozenset({"PATH", "FILE", "FOLDER"})
"""Metavars of options that take a path."""

_HYDRA = (
    Argument(names=("--config-dir",), text="folder of a YAML file of yours", takes="path"),
    Argument(names=("--config-name",), text="the YAML file, without .yaml", takes="other"),
    Argument(names=("-h", "--help"), text="show help and the settings"),
)


def every_verb() -> tuple[VerbWords, ...]:
    """Return what each verb takes; for that, each is imported."""
    return tuple(_words_of(name, text) for name, text in VERBS.items())


def _words_of(name: str, text: str) -> VerbWords:
    module = importlib.import_module(f"expertree.cli.{name}")
    verb: SettingsVerb[object] | None = getattr(module, "VERB", None)
    if verb is None:
        return _of_parser(name, text, module.parser())
    return _of_settings(name, text, verb)


def _of_parser(name: str, text: str, parser: argparse.ArgumentParser) -> VerbWords:
    # argparse has no public list of what a parser takes; completers of others read this one too.
    actions = parser._actions  # noqa: SLF001
    return VerbWords(
        name=name,
        text=text,
        options=tuple(_option(action) for action in actions if action.option_strings),
        operands=tuple(
            str(choice)
            for action in actions
            if not action.option_strings
            for choice in action.choices or ()
        ),
    )


def _option(action: argparse.Action) -> Argument:
    values = tuple(str(choice) for choice in action.choices or ())
    if action.dest == "instruction":
        names = read_outline(find_bundle(SHIPPED)).guide.names
        values = tuple(name for name in names if " " not in name)  # degrees, "thick haze", have one
    takes_path = action.metavar in _PATH
    return Argument(
        names=tuple(action.option_strings),
        text=(action.help or "").partition(" (default")[0],
        takes="nothing" if action.nargs == 0 else "path" if takes_path else "other",
        values=values,
    )


def _of_settings(name: str, text: str, verb: SettingsVerb[object]) -> VerbWords:
    keys = sorted(set(all_keys(verb.cls)))
    values = {key: tuple(own) for key, own in known_values(verb.cls)}
    values |= {key: tuple(own) for key, own in verb.values.items()}
    if found := experiments(verb.cls, verb.config_name):
        values["experiment"] = tuple(found)
        keys.append("experiment")
    sections = {key.rpartition(".")[0] for key in keys if "." in key}
    return VerbWords(
        name=name,
        text=text,
        options=(*_flags(keys), *_HYDRA),
        keys=tuple(f"{key}." if key in sections else f"{key}=" for key in sorted(keys)),
        values={f"{key}=": own for key, own in values.items()},
    )


def _flags(keys: list[str]) -> Iterator[Argument]:
    for key, (usage, what) in FLAGS.items():
        if key in {"", *keys}:
            flag, _, value = usage.partition(" ")
            is_word = value.islower()
            yield Argument(
                names=(flag,),
                text=what,
                takes="nothing" if not value else "path" if value in _PATH else "other",
                values=(value,) if is_word else (),
            )
