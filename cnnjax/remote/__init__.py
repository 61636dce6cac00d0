# SPDX-License-Identifier: Apache-2.0
"""Workdirs in a bucket: gs://, s3:// and whatever else fsspec opens.

The run works in a folder on this machine, the stage, and a thread sends what it completes (`sending`); whoever reads
the run fetches what it needs into such a folder first (`fetching`). So everything else knows local paths only.

What a bucket holds is what was committed there. A checkpoint counts when the object `.remote/commits/.../STEP.json`,
which is written after its files, lists them all with sizes and checksums. Every other file is one object, which a
store replaces as a whole or not at all.
"""

import re

_URL = re.compile(r"[a-z][a-z0-9+]*://")


def is_remote(place: object) -> bool:
    """Whether `place` is a URL and not a path."""
    return isinstance(place, str) and _URL.match(place) is not None
