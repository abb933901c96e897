"""`expertree bench` as a file, for `ray job submit`; `--help` says what it takes.

python jobs/bench.py bench=overhead
"""

import sys

from expertree.cli.bench import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
