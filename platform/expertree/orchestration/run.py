"""One run of the build job, with its progress display, its event log and its report."""

import sys
import time
from collections.abc import Mapping
from typing import Any, cast

from expertree.config import to_dict
from expertree.events import read_events
from expertree.orchestration.runner import runner_of
from expertree.owners import Owner
from expertree.pipeline.build import build, prepare
from expertree.pipeline.bundles import copy_bundle
from expertree.pipeline.claim import claimed
from expertree.pipeline.evaluate import evaluate, run_record
from expertree.pipeline.finetune import settle
from expertree.pipeline.grow import check_photographs, inherit, past_of
from expertree.pipeline.recorder import Recorder, recorded
from expertree.pipeline.settings import BuildConfig
from expertree.pipeline.sources import Material
from expertree.pipeline.stages import Workbench
from expertree.pipeline.timeline import time_of_work, timeline
from expertree.report import Run, results_table, write_report
from expertree.storage import Storage

BUNDLE = "bundle"


def run_build(config: BuildConfig) -> int:
    """Build a tree, write its report, and print the results.

    Returns:
        The exit code, 0.

    Raises:
        ExpertreeError: If the build fails; says in one sentence what is wrong and what to do.
    """
    begin = time.time()
    config = settle(inherit(config))
    material = prepare(config)
    past = past_of(config)
    if past is not None:
        check_photographs(past, material)
    output, store = Storage.open(config.output), Storage.open(config.store)
    with (
        claimed(output, store, name=config.cluster.owner) as keeper,
        recorded(
            output, "build", config.title, check=keeper.check, config=to_dict(config)
        ) as recorder,
    ):
        for name, reason in material.skipped:
            recorder.events.emit("photograph_skipped", name=name, reason=reason)
        record = _build(config, material, recorder, keeper.owner)
    _say(config, record, output, num_skipped=len(material.skipped), seconds=time.time() - begin)
    return 0


def _build(
    config: BuildConfig, material: Material, recorder: Recorder, owner: Owner
) -> Mapping[str, Any]:
    """Build, and write report and bundle into the output folder; return the report's record."""
    output = Storage.open(config.output)
    bench = Workbench(
        store=Storage.open(config.store),
        events=recorder.events,
        runner=runner_of(config.cluster, recorder.events),
        on_stage=recorder.on_stage,
        owner=owner,
    )
    with bench:
        built = build(config, material, bench, recorder.on_status)
        evaluation = evaluate(config, bench, built)
    history = read_events(recorder.events.path)
    record, images = run_record(
        config,
        built,
        evaluation,
        times=bench.times,
        wall_s=time_of_work(history),
        timeline=list(timeline(history)),
    )
    write_report(cast("Run", record), images, output)
    copy_bundle(built.bundle, output.sub(BUNDLE))
    return record


def _say(
    config: BuildConfig,
    record: Mapping[str, Any],
    output: Storage,
    *,
    num_skipped: int,
    seconds: float,
) -> None:
    colour = sys.stdout.isatty()
    lines = [results_table(cast("Run", record), colour=colour)]
    lines += [record[name]["said"] for name in ("grown", "finetuned") if name in record]
    if num_skipped:
        where = "data.sources" if config.data.sources else config.photographs.source
        lines.append(f"{num_skipped} files of {where} were skipped; see report")
    lines += [
        f"bundle  {output.where(BUNDLE)}",
        f"report  {output.where('report.html')}",
        f"built in {seconds:.0f} s",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
