"""Memory of batches, used again once nobody looks at it: new pages cost more than decoding."""

from __future__ import annotations

import weakref
from collections import deque
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

FREE_BYTES = 1 << 30
"""Unused memory that is kept for the next batches."""


class BufferPool:
    """Lends arrays; their memory comes back when the last array, view or tensor over it is gone."""

    def __init__(self, free_bytes: int = FREE_BYTES) -> None:
        self._most = free_bytes
        # `append` and `pop` are atomic: memory may come back in the middle of `take`, when the garbage
        # collector runs there, so nothing here may wait for a lock that `take` holds.
        self._returned: deque[NDArray[np.uint8]] = deque()
        self._free: dict[int, list[NDArray[np.uint8]]] = {}
        self._held = 0
        self._lock = Lock()

    def take(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """An array of arbitrary content."""
        dtype = np.dtype(dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        if size == 0:
            return np.empty(shape, dtype)
        with self._lock:
            self._sort()
            kept = self._free.get(size)
            memory = kept.pop() if kept else None
            self._held -= size if memory is not None else 0
        if memory is None:
            memory = np.empty(size, np.uint8)
        lease = _Lease(memory)
        weakref.finalize(lease, self._returned.append, memory).atexit = False
        return np.frombuffer(lease, dtype).reshape(shape)

    def _sort(self) -> None:
        while self._returned:
            memory = self._returned.popleft()
            if self._held + memory.nbytes <= self._most:
                self._free.setdefault(memory.nbytes, []).append(memory)
                self._held += memory.nbytes


class _Lease:
    """Lives as long as any array over the memory: each holds its buffer, and so this object."""

    def __init__(self, memory: NDArray[np.uint8]) -> None:
        self._memory = memory

    def __buffer__(self, flags: int) -> memoryview:
        return memoryview(self._memory)
