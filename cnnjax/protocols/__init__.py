# SPDX-License-Identifier: Apache-2.0
"""Evaluation as in the papers: several views of a picture, several networks, and how sure the numbers are.

Pure parts, which know no run and no data set: views and protocols (what is shown to the network), dense (dense layers
as convolutions), diversity and averages (several networks), intervals, temperature and corruptions (how far a number
can be trusted).
"""

from cnnjax.protocols.protocol import PROTOCOLS, Pass, Protocol, make_protocol
from cnnjax.protocols.views import Views

__all__ = ["PROTOCOLS", "Pass", "Protocol", "Views", "make_protocol"]
