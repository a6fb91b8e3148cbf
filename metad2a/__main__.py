"""``python -m metad2a``: the command line."""

import sys

from metad2a.cli import main

if __name__ == "__main__":
    sys.exit(main())
