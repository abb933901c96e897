"""`expertree search` as a file, for `ray job submit`; `--help` says what it takes.

python jobs/search.py search_space=granularity experiment=demo output=runs/search/granularity
"""

import sys

from expertree.cli.search import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
