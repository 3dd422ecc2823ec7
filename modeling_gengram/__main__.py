"""`python -m gengram` is the command, for launchers that start modules: `accelerate launch -m gengram embed ...`."""

import sys

from gengram.cli import main

if __name__ == "__main__":
    sys.exit(main())
