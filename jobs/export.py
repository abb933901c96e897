"""`expertree export` as a file; `--help` says what it takes.

python jobs/export.py runs/demo/bundle -o exported
"""

import sys

from expertree.cli.export import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
