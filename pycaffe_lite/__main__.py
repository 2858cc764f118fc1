"""`python -m pycaffe_lite`: the same as the console script."""

import sys

from .cli import main

if __name__ == "__main__":  # not in the processes that a command starts
    sys.exit(main())
