"""`expertree status` as a file, for `ray job submit`; `--help` says what it takes.

python jobs/status.py runs/mine
"""

import sys

from expertree.cli.status import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
