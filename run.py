# SPDX-License-Identifier: Apache-2.0
"""The launcher: `python run.py --help` tells what it does."""

import sys

from cnnjax.commands import main

if __name__ == "__main__":
    if "--debug" not in sys.argv:
        # After a failed read or write the storage library's threads complain while they are cleared away; what
        # went wrong is said in our own line.
        sys.unraisablehook = lambda _: None
    sys.exit(main())
