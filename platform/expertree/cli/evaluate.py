r"""Measure a bundle on data sets, each under its protocol: one, or all in a folder.

expertree evaluate bundle=runs/demo/bundle dataset=rain100l root=/data/Rain100L
expertree evaluate bundle=runs/demo/bundle dataset=cbsd68 root=/data/CBSD68 split=noise50 \
    output=runs/demo/cbsd68_noise50.json
expertree evaluate bundle=runs/demo/bundle --sets /data output=runs/demo/sets
expertree evaluate bundle=runs/demo/bundle --sets /data cluster=auto

With --sets, tables and a page put the results beside the input, classical methods and published
ones. Run it again after any interruption: images that were measured are not measured again.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from expertree.cli.codes import EXIT_DONE
from expertree.cli.running import SettingsVerb, run_verb
from expertree.datasets import DATASETS, table_of
from expertree.evaluation.public_sets import Kind, Result, SetsTable
from expertree.public_sets.run import Work, in_this_process, measure_sets
from expertree.report.sets_page import title_in_text
from expertree.restorer.on_dataset import EvaluateConfig, evaluate_bundle

VERB = SettingsVerb(
    name="evaluate",
    text=__doc__ or "",
    cls=EvaluateConfig,
    config_name="evaluate",
    values={"dataset": tuple(DATASETS)},
)


def main(arguments: Sequence[str]) -> int:
    """Read the settings, measure, print the table and return the exit code."""
    return run_verb(arguments, VERB, _evaluate)


def _evaluate(config: EvaluateConfig) -> int:
    if not config.sets:
        evaluate_bundle(config, on_image=_say, on_result=_print)
        return EXIT_DONE
    report, output = measure_sets(config, _work_of(config), on_image=_say)
    for problems in report.problems.values():
        sys.stderr.writelines(f"left out: {problem}\n" for problem in problems)
    sys.stdout.write(_lines(report.table) + f"\n{output / 'sets.html'}\n")
    return EXIT_DONE


def _work_of(config: EvaluateConfig) -> Work:
    """Return what measures, this process or a cluster; Ray is loaded only for a cluster."""
    if config.cluster is None:
        return in_this_process
    from expertree.orchestration.measure_sets import on_cluster  # noqa: PLC0415

    return on_cluster


_SHOWN: tuple[Kind, ...] = ("input", "classical", "routed", "told")


def _lines(table: SetsTable) -> str:
    """Return the columns as lines of text: PSNR of the input, a classical method, ours, told."""
    ours: dict[Kind, Mapping[str, Result]] = {
        row.kind: row.results for row in table.rows if row.kind != "published"
    }
    width = max((len(title_in_text(column)) for column in table.columns), default=0)
    lines = [f"{'PSNR (dB)':{width}}  images    input  classical   routed     gain     told"]
    for column in table.columns:
        found = [ours.get(kind, {}).get(column.key) for kind in _SHOWN]
        cells = ["" if one is None else f"{one.psnr:.2f}" for one in found]
        before, _, after, _ = found
        gain = f"{after.psnr - before.psnr:+.2f}" if before and after else ""
        lines.append(
            f"{title_in_text(column):{width}}  {column.num_images or '':>6}  {cells[0]:>7}  "
            f"{cells[1]:>9}  {cells[2]:>7}  {gain:>7}  {cells[3]:>7}".rstrip()
        )
    return "\n".join(lines)


def _print(result: Mapping[str, Any]) -> None:
    sys.stdout.write(table_of(result) + "\n")


def _say(number: int, total: int, name: str) -> None:
    sys.stderr.write(f"{number}/{total} {name}\n")
