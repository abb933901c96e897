"""One run of the job that compares methods, with its progress display, its log and its report."""

import datetime as dt
import os
import platform
import sys

import torch

from expertree.comparison.files import as_markdown
from expertree.comparison.page import render_comparison
from expertree.comparison.record import Comparison, record_of
from expertree.comparison.run import Compared, compare
from expertree.comparison.settings import CompareConfig
from expertree.config import to_dict
from expertree.evaluation.public_sets import SetsTable
from expertree.orchestration.compare_on_sets import check, measure_methods, write_bundles
from expertree.orchestration.runner import runner_of
from expertree.pipeline.build import prepare
from expertree.pipeline.claim import claimed
from expertree.pipeline.provenance import source_commit
from expertree.pipeline.recorder import recorded
from expertree.pipeline.stages import Workbench
from expertree.storage import Storage
from expertree.uris import public


def run_compare(config: CompareConfig, command: str) -> int:
    """Compare methods, write the report, and print the tables.

    Args:
        config: The comparison.
        command: The command line, for the report.

    Returns:
        The exit code, 0.

    Raises:
        ExpertreeError: If it fails; says in one sentence what is wrong and what to do.
    """
    check(config)
    material = prepare(config)
    output, store = Storage.open(config.output), Storage.open(config.store)
    with (
        claimed(output, store, name=config.cluster.owner) as keeper,
        recorded(
            output, "compare", config.title, check=keeper.check, config=to_dict(config)
        ) as recorder,
    ):
        bench = Workbench(
            store=store,
            events=recorder.events,
            runner=runner_of(config.cluster, recorder.events),
            on_stage=recorder.on_stage,
            owner=keeper.owner,
        )
        with bench:
            compared = compare(config, material, bench, recorder.on_status)
        write_bundles(config, compared.bundles, output)
        sets = measure_methods(config, compared.bundles, output)
        record = _record(config, compared, command, sets)
        for name, data in render_comparison(record).items():
            output.write_bytes(name, data)
    sys.stdout.write(f"{as_markdown(record)}\nreport  {output.where('compare.html')}\n")
    return 0


def _record(
    config: CompareConfig, compared: Compared, command: str, sets: SetsTable | None
) -> Comparison:
    return record_of(
        config,
        compared,
        command=public(command),
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        commit=source_commit(),
        machine=_machine(),
        settings=public(to_dict(config)),
        sets=sets,
    )


def _machine() -> str:
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{gpu}"
