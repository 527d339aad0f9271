"""`python -m tocsin`: the command line without an installed script.

Enters: arguments. Leaves: an exit code. Layer: above the faces; it only calls one.
"""

import sys

from tocsin.faces.cli import main

if __name__ == "__main__":
    sys.exit(main())
