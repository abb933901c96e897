"""`expertree evaluate` as a file, for `ray job submit`; `--help` says what it takes.

python jobs/evaluate.py bundle=runs/demo/bundle dataset=rain100l root=/data/Rain100L
"""

import sys

from expertree.cli.evaluate import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
