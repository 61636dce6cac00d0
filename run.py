# SPDX-License-Identifier: Apache-2.0
"""The launcher: `python run.py --help` tells what it does."""

import sys

from cnnjax.commands import main

if __name__ == "__main__":
    sys.exit(main())
