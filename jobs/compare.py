"""`expertree compare` as a file, for `ray job submit`; `--help` says what it takes.

python jobs/compare.py experiment=compare_demo
ray job submit --working-dir . -- python jobs/compare.py experiment=compare_demo
"""

import sys

from expertree.cli.compare import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
