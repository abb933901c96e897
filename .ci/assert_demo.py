"""Assert the gains that the demo promises.

Run it on a finished demo:

    python .ci/assert_demo.py runs/demo/report.json
"""

import json
import sys
from pathlib import Path

LEAST_GAIN_DB = {"in": 1.5, "out": 1.0}
MOST_WALL_S = 15 * 60


def main(report_path: str) -> int:
    """Print routed against root by distribution; 1 when a gain is below its promise."""
    report = json.loads(Path(report_path).read_text())
    failed = False
    for distribution, least_db in LEAST_GAIN_DB.items():
        psnr_db = report["summary"]["psnr_rgb"][distribution]
        gain_db = psnr_db["routed"] - psnr_db["root"]
        failed |= not gain_db >= least_db
        print(
            f"{distribution}: degraded {psnr_db['degraded']:.2f}, root {psnr_db['root']:.2f}, "
            f"routed {psnr_db['routed']:.2f}, oracle {psnr_db['oracle']:.2f} dB; "
            f"gain {gain_db:+.2f} dB, at least {least_db:+.2f}"
        )
    wall_s = report["cost"]["wall_s"]
    print(f"the job took {wall_s:.0f} s, at most {MOST_WALL_S} on two cores")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
