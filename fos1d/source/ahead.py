"""Reading many small Git objects in few round trips, although they are asked for one by one."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from fos1d.model.snapshot import Blob
from fos1d.source.objects import Objects

_AT_ONCE = 64
_AT_ONCE_BYTES = 4 << 20


class ReadAhead:
    """Fetches, with a blob that is asked for, those that will likely be asked for next."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._lock = threading.Lock()
        self._expected: Sequence[Blob] = ()
        self._place: dict[str, int] = {}
        self._fetched: dict[str, bytes] = {}

    def expect(self, blobs: Iterable[Blob]) -> None:
        """Expect that `blobs` are read, in this order; forget what was expected before."""
        with self._lock:
            self._expected = tuple(blobs)
            self._place = {blob.id: place for place, blob in enumerate(self._expected)}
            self._fetched.clear()

    def read(self, id: str) -> bytes:
        """Return the bytes of a blob; raise SourceError where it is missing or damaged."""
        with self._lock:
            if id not in self._fetched:
                ids = self._batch(id)
                self._fetched = dict(zip(ids, self._objects.contents("blob", ids), strict=True))
            return self._fetched.pop(id)

    def _batch(self, id: str) -> list[str]:
        """Return `id` and the ids of what is expected after it, a few megabytes at most."""
        start = self._place.pop(id, None)
        if start is None:
            return [id]
        ids, size_bytes = {id: None}, 0
        for blob in self._expected[start + 1 : start + _AT_ONCE]:
            size_bytes += blob.size_bytes
            if size_bytes > _AT_ONCE_BYTES:
                break
            ids[blob.id] = None
        return list(ids)
