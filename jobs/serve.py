"""`expertree serve` as a file, for `ray job submit`; `--help` says what it takes.

python jobs/serve.py bundle=runs/demo/bundle
"""

import sys

from expertree.cli.serve import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
