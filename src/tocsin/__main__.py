"""`python -m tocsin`: the command line without an installed script."""

import sys

from tocsin.faces.cli import main

if __name__ == "__main__":
    sys.exit(main())
