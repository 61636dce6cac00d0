# SPDX-License-Identifier: Apache-2.0
"""Messages between processes: one JSON object a line over a TCP connection."""

import json
import socket
import threading
from typing import Any

MOST_BYTES = 2**20  # of a line; what comes from the network may be anything


class Line:
    """One connection. `send` may be called from any thread, `receive` from one at a time."""

    def __init__(self, connection: socket.socket):
        self.socket = connection
        connection.settimeout(10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lock = threading.Lock()
        self._rest = b""

    def fileno(self) -> int:
        """For selectors."""
        return self.socket.fileno()

    def send(self, message: dict[str, Any]) -> None:
        """Raises OSError when the other side has gone."""
        with self._lock:
            self.socket.sendall(json.dumps(message).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]]:
        """What has come whole, after waiting for some; an OSError or ValueError when there will be no more."""
        part = self.socket.recv(2**16)
        if not part:
            raise ConnectionResetError("its connection closed")
        *whole, self._rest = (self._rest + part).split(b"\n")
        if len(self._rest) > MOST_BYTES:
            raise ValueError("a message without end")
        messages = [json.loads(line) for line in whole]
        if not all(isinstance(message, dict) for message in messages):
            raise ValueError("a message that is none of ours")
        return messages

    def close(self) -> None:
        """Closes the connection; safe to call twice."""
        self.socket.close()
