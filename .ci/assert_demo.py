"""Assert what the demo promises.

Run it on a finished demo:

    python .ci/assert_demo.py runs/demo/report.json
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

LEAST_ROUTED_DB = {"in": 25.5, "out": 21.0}
"""Mean PSNR over single degradations."""

MOST_HARMED = {"in": 0.05, "out": 0.05}
"""Share of images that are worse than the input by more than 0.1 dB."""

LEAST_OVER_INPUT = {"psnr_rgb": 0.0, "ssim": 0.0}
"""What the routed experts add to the input, at least, on every single degradation."""

MOST_WALL_S = 600
"""On two cores."""


def main(report_path: str) -> int:
    """Print what the demo reached, and which promises it broke; 1 if it broke any."""
    report = json.loads(Path(report_path).read_text())
    for distribution, psnr_db in report["summary"]["psnr_rgb"].items():
        gain_db = report["summary"]["gain_db"][distribution]
        over = report["summary"]["gain_over"][distribution]
        reached = ", ".join(f"{method} {value:.2f}" for method, value in psnr_db.items())
        print(f"{distribution}: {reached} dB; gain {gain_db:+.2f} dB over {over}")
    print(f"the job took {report['cost']['wall_s']:.0f} s, at most {MOST_WALL_S} on two cores")
    broken = list(broken_promises(report))
    for promise in broken:
        print(f"BROKEN {promise}")
    return int(bool(broken))


def broken_promises(report: dict[str, Any]) -> Iterator[str]:
    """Each promise that a report breaks, in a line."""
    summary = report["summary"]
    for distribution, least_db in LEAST_ROUTED_DB.items():
        routed_db = summary["psnr_rgb"][distribution]["routed"]
        if not routed_db >= least_db:
            yield f"{distribution}: routed {routed_db:.2f} dB, at least {least_db:.2f}"
    for distribution, most in MOST_HARMED.items():
        harmed = summary["harmed"][distribution]["routed"]
        if not harmed <= most:
            yield f"{distribution}: {harmed:.1%} of images harmed, at most {most:.1%}"
    for table in report["tables"]:
        if table["kind"] == "single":
            yield from _worse_than_the_input(table)
    if not report["cost"]["wall_s"] <= MOST_WALL_S:
        yield f"the job took {report['cost']['wall_s']:.0f} s, at most {MOST_WALL_S}"


def _worse_than_the_input(table: dict[str, Any]) -> Iterator[str]:
    rows = {row["method"]: row for row in table["rows"]}
    for metric, least in LEAST_OVER_INPUT.items():
        columns = zip(table["columns"], rows["input"][metric], rows["routed"][metric], strict=True)
        for column, before, after in columns:
            if column != "average" and not after - before >= least:
                yield (
                    f"{table['distribution']}: {column} {metric} {before:.4g} to {after:.4g}, "
                    f"at least {least:+.4g}"
                )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
