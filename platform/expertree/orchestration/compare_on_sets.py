"""Measures the methods of a comparison on public sets, each as the bundle that it became."""

import dataclasses
import sys
from collections.abc import Mapping

from expertree.comparison.methods import MethodConfig
from expertree.comparison.settings import CompareConfig
from expertree.errors import ConfigError
from expertree.evaluation.public_sets import Column, Row, SetsTable, make_table
from expertree.evaluation.published import read_published
from expertree.hierarchy import ROOT
from expertree.orchestration.measure_sets import on_cluster
from expertree.orchestration.restore_files import OWN_CLUSTER
from expertree.pipeline.bundles import copy_bundle
from expertree.public_sets.run import Measured, check_sets, in_this_process, measure
from expertree.restorer.on_dataset import EvaluateConfig, OnImage
from expertree.storage import Storage
from expertree.uris import public

BUNDLES, SETS = "bundles", "sets"


def check(config: CompareConfig) -> None:
    """Raise unless the sets of a comparison can be measured, before anything is trained.

    Raises:
        ConfigError: If the output is no folder.
        DatasetError: If there is no set below `config.sets` that can be measured.
    """
    if not config.sets:
        return
    if Storage.open(config.output).is_remote:
        raise ConfigError(
            f"sets={config.sets} is measured from bundles in a folder; give output a folder in "
            f"place of {public(config.output)}"
        )
    check_sets(_asked(config, Storage.open(config.output), config.methods[0], is_first=True))


def write_bundles(config: CompareConfig, bundles: Mapping[str, Storage], output: Storage) -> None:
    """Copy each method's bundle, by its name, below the output folder."""
    for method in config.methods:
        if method.name in bundles:
            copy_bundle(bundles[method.name], output.sub(BUNDLES, method.folder))


def measure_methods(
    config: CompareConfig, bundles: Mapping[str, Storage], output: Storage
) -> SetsTable | None:
    """Measure all methods that became bundles, and put published results beside them.

    Args:
        config: The comparison.
        bundles: Bundle of each method, by its name; copies are below the output folder.
        output: The output folder, where the scores of each image are kept.

    Returns:
        The table; None if no sets were given.
    """
    if not config.sets:
        return None
    columns: list[Column] = []
    rows: list[Row] = []
    work = in_this_process if config.cluster.runner == "local" else on_cluster
    for method in config.methods:
        if method.name not in bundles:
            continue
        asked = _asked(config, output, method, is_first=not rows)
        if not method.tree:
            asked = dataclasses.replace(asked, expert=ROOT)
        own = measure(asked, work, _saying(method.name))
        columns = list(own.columns)
        rows += _rows(own, method.name, is_tree=method.tree, is_first=not rows)
    return make_table(columns, rows, read_published(None))


def _asked(
    config: CompareConfig, output: Storage, method: MethodConfig, *, is_first: bool
) -> EvaluateConfig:
    address = config.cluster.address or OWN_CLUSTER
    return EvaluateConfig(
        bundle=output.where(f"{BUNDLES}/{method.folder}"),
        sets=config.sets,
        partial=config.sets_partial,
        classical=is_first,
        output=output.where(f"{SETS}/{method.folder}"),
        cluster=None if config.cluster.runner == "local" else address,
    )


def _rows(own: Measured, method: str, *, is_tree: bool, is_first: bool) -> list[Row]:
    """Return a method's rows under its own name; the first one's also of input and classical."""
    note = own.origin.note if is_tree else "the network, on every image"
    found = []
    for row in own.rows:
        if row.kind == "routed":
            found.append(dataclasses.replace(row, method=method, note=note, source=""))
        elif row.kind == "told":
            found.append(dataclasses.replace(row, method=f"{method}, told the task"))
        elif is_first:
            found.append(row)
    return found


def _saying(method: str) -> OnImage:
    def say(number: int, total: int, name: str) -> None:
        sys.stderr.write(f"{method}: {number}/{total} {name}\n")

    return say
