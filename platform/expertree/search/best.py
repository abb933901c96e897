"""Renders the best tree of a search as a configuration that the build job takes."""

import shlex
from collections.abc import Mapping
from typing import Any

import yaml

from expertree.config import NAME, to_dict
from expertree.pipeline.settings import BuildConfig
from expertree.search.record import Trial

BEST = "best.yaml"

_HEAD = """\
# {what}
#
#     {command}
defaults:
  - build_defaults
  - _self_

"""


def best_yaml(config: BuildConfig, trial: Trial, *, command: str) -> str:
    """Return a primary configuration for Hydra: what differs from the defaults.

    Args:
        config: Configuration of the tree's build.
        trial: Trial that found the tree.
        command: Command that builds the tree.
    """
    what = f"Trial {trial['number']}: {trial['shape']}"
    if trial["objectives"] is not None:
        own = trial["objectives"]
        what += f", {own['psnr_in']:.2f} dB in and {own['psnr_out']:.2f} dB out of distribution"
    differs = difference(to_dict(config), to_dict(BuildConfig()))
    return _HEAD.format(what=what, command=command) + str(yaml.safe_dump(differs, sort_keys=False))


def build_command(output: str) -> str:
    """Return the command that builds the best tree of the search in a folder, as a shell takes it.

    Args:
        output: Output of the search, a folder or a URI.
    """
    name = BEST.removesuffix(".yaml")
    return f"expertree build --config-dir {shlex.quote(output)} --config-name {name}"


def difference(data: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of some plain data that differs from defaults with the same keys.

    A section of another name is given whole, since a name alone stands for sizes of its own.
    """
    found: dict[str, Any] = {}
    for key, value in data.items():
        default = defaults[key]
        if isinstance(value, dict) and isinstance(default, dict) and _are_alike(value, default):
            inner = difference(value, default)
            if inner:
                found[key] = inner
        elif value != default:
            found[key] = value
    return found


def _are_alike(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one.keys() == other.keys() and one.get(NAME) == other.get(NAME)
