"""`expertree restore` as a file, for `ray job submit`; `--help` says what it takes.

python jobs/restore.py -i holiday.jpg -o restored.jpg
"""

import sys

from expertree.cli.restore import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
