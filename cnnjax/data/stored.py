# SPDX-License-Identifier: Apache-2.0
"""Undecoded pictures by number: of files, and of ArrayRecord shards. Small objects that worker processes are given."""

import bisect
import os
import threading
from array import array
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Any

import numpy as np


class Names:
    """Many names in one array: a list of strings would take several times their memory.

    Args:
      text: all of them, one after the other, uint8.
      ends: [N] int64, where in `text` each ends.
    """

    def __init__(self, text: np.ndarray, ends: np.ndarray):
        self.text, self.ends = text, ends

    @classmethod
    def of(cls, names: Iterable[str]) -> "Names":
        """Holds `names`."""
        text, ends = bytearray(), array("q")
        for name in names:
            text += os.fsencode(name)
            ends.append(len(text))
        return cls(np.frombuffer(bytes(text), np.uint8), np.frombuffer(ends, np.int64))

    def __getitem__(self, i: int) -> str:
        return os.fsdecode(self.text[self.ends[i - 1] if i else 0 : self.ends[i]].tobytes())


class Files:
    """Pictures in files of their own, below one folder."""

    mode = ""

    def __init__(self, root: str, names: Iterable[str], label: Sequence[int] | np.ndarray):
        self._root, self._names = root, Names.of(names)
        self._label = np.asarray(label, np.int32)

    def labels(self) -> np.ndarray:
        """[N] int32."""
        return self._label

    def path(self, i: int) -> str:
        """The file of picture `i`."""
        return os.path.join(self._root, self._names[i])  # noqa: PTH118, called for every picture of an epoch

    def read(self, i: int) -> bytes:
        """The content of the file of picture `i`."""
        with open(self.path(i), "rb") as file:  # noqa: PTH123, likewise
            return file.read()

    def name(self, i: int) -> str:
        """The path, with what would break a line escaped."""
        return repr(self.path(i))[1:-1]


class Shards:
    """Records of ArrayRecord files laid end to end; each file is opened when the first of its records is read.

    Args:
      paths: of the files.
      counts: their numbers of records.
    """

    def __init__(self, paths: Sequence[str], counts: Sequence[int]):
        self._paths, self._ends = list(paths), list(accumulate(counts))
        self._open()

    def _open(self) -> None:
        self._readers: dict[int, Any] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getstate__(self) -> dict[str, Any]:
        return {"_paths": self._paths, "_ends": self._ends}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._open()

    def read(self, first: int, count: int = 1) -> list[bytes]:
        """Records first..first + count - 1.

        Raises:
          ValueError: a file is missing or damaged.
        """
        found: list[bytes] = []
        while len(found) < count:
            shard = bisect.bisect_right(self._ends, first + len(found))
            start = first + len(found) - (self._ends[shard - 1] if shard else 0)
            number = min(count - len(found), self._ends[shard] - first - len(found))
            try:
                found += self._reader(shard).read(list(range(start, start + number)))
            except Exception as error:  # the C++ reader's, about a damaged file
                reason = " ".join(str(error).split())[:200]
                raise ValueError(f"{self._paths[shard]} is damaged or missing: {reason}") from error
        return found

    def _reader(self, shard: int) -> Any:
        from array_record.python.array_record_module import ArrayRecordReader

        with self._lock:
            if shard not in self._readers:
                self._readers[shard] = ArrayRecordReader(self._paths[shard], "readahead_buffer_size:0")
            return self._readers[shard]
