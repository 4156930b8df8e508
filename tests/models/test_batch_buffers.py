"""A batch's memory is used again when, and only when, nothing refers to it any more."""

from __future__ import annotations

import gc

import numpy as np
import torch

from models.batch_buffers import BufferPool


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_comes_back_after_the_last_view_of_it() -> None:
    pool = BufferPool()
    first = pool.take((4, 8), np.uint16)
    at = address(first)
    view = first[1:3].reshape(-1)[2:]
    tensor = torch.from_numpy(view)
    del first, view
    gc.collect()
    tensor[:] = 7
    other = pool.take((4, 8), np.uint16)
    other[...] = 0
    assert address(other) != at
    assert (tensor == 7).all()
    del tensor
    assert address(pool.take((2, 16), np.uint16)) == at


def test_arrays_are_of_the_shape_and_type_asked_for_and_can_be_written() -> None:
    pool = BufferPool()
    for shape, dtype in [((3, 2, 5, 5), np.float32), ((0, 4), np.uint8), ((7,), np.int64)]:
        array = pool.take(shape, dtype)
        assert (array.shape, array.dtype) == (shape, dtype)
        array[...] = 3
        assert (array == 3).all()


def test_no_more_is_kept_than_was_said() -> None:
    pool = BufferPool(free_bytes=100)
    held = [pool.take((40,), np.uint8) for _ in range(5)]
    held.clear()
    pool.take((1,), np.uint8)
    assert pool._held <= 100
