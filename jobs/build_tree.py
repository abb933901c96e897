"""`expertree build` as a file, for `ray job submit`; `--help` says what it takes.

python jobs/build_tree.py experiment=demo
ray job submit --working-dir . -- python jobs/build_tree.py experiment=demo
"""

import sys

from expertree.cli.build import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
