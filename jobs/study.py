"""`expertree study` as a file, for `ray job submit`; `--help` says what it takes.

python jobs/study.py study=silhouette silhouette.embeddings=runs/demo
"""

import sys

from expertree.cli.study import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
