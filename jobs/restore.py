"""Restore photographs: each by the expert for what is wrong with it, its metadata as it was.

    python jobs/restore.py -i holiday.jpg -o restored.jpg
    python jobs/restore.py -i photos -o restored -r --report restored/report.html
    python jobs/restore.py -i photos -o restored -r --instruction rain --confidence 2
    python jobs/restore.py -i photos -o restored -r --strength 0.4
    python jobs/restore.py -i photos -o restored -r --insist
    python jobs/restore.py -i photos -o restored --format webp --quality 90 --suffix _restored
    python jobs/restore.py -i - -o - < dark.png > bright.png
    python jobs/restore.py -i /shared/photos -o /shared/restored -r --cluster auto

A photograph that no expert is predicted to make better is copied byte for byte; --insist restores
it all the same. Run it again after any interruption: what is restored stays, what is left is done.
Ends with 0 if all was done, 1 if some photographs failed (they are named), 2 if nothing could
begin.
"""

import sys

from expertree.batch.command import Work, in_this_process, parse, run
from expertree.batch.settings import BatchConfig


def main(arguments: list[str]) -> int:
    """Read the command line, restore, and say how it went."""
    config = parse(arguments, description=__doc__ or "")
    return run(config, work_of(config))


def work_of(config: BatchConfig) -> Work:
    """What restores: this process, or a cluster; Ray is loaded only for one."""
    if config.cluster is None:
        return in_this_process
    from expertree.orchestration.restore_files import on_cluster  # noqa: PLC0415

    return on_cluster


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
