"""`expertree dashboard` as a file, for `ray job submit`; `--help` says what it takes.

python jobs/dashboard.py --dry-run
"""

import sys

from expertree.cli.dashboard import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
