"""One run of the job that compares methods, with its progress display, its log and its report."""

import datetime as dt
import os
import platform
import sys
import time

import torch

from expertree.comparison.files import as_markdown
from expertree.comparison.page import render_comparison
from expertree.comparison.record import record_of
from expertree.comparison.run import compare
from expertree.comparison.settings import CompareConfig
from expertree.config import to_dict
from expertree.orchestration.run import Recorder, open_events, publish_events
from expertree.orchestration.runner import runner_of
from expertree.pipeline.build import prepare
from expertree.pipeline.provenance import source_commit
from expertree.pipeline.stages import Workbench
from expertree.storage import Storage


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
    begin = time.time()
    material = prepare(config)
    output = Storage.open(config.output)
    events = open_events(output)
    events.emit("build_started", config=to_dict(config))
    recorder = Recorder(config.title, events)
    bench = Workbench(
        store=Storage.open(config.store),
        events=events,
        runner=runner_of(config.cluster, events),
        on_stage=recorder.on_stage,
    )
    with recorder.view, bench:
        compared = compare(config, material, bench, recorder.on_status)
    record = record_of(
        config,
        compared,
        command=command,
        created=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        commit=source_commit(),
        machine=_machine(),
        settings=to_dict(config),
    )
    for name, data in render_comparison(record).items():
        output.write_bytes(name, data)
    events.emit("build_done", seconds=round(time.time() - begin, 1))
    publish_events(events, output)
    sys.stdout.write(f"{as_markdown(record)}\nreport  {output.path('compare.html')}\n")
    return 0


def _machine() -> str:
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores{gpu}"
