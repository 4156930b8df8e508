"""Scenes with what came of them, in the order of a choice, while later ones are already being read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from catalog.errors import SceneError
from catalog.products import Product
from catalog.recipes import ProductRequest
from catalog.samples import Location
from catalog.scenes import Scene
from tasks.cube.choose_scenes import Choice
from tasks.cube.footprints import PlaceIndex, Rows
from tasks.cube.held_scenes import HeldScenes
from tasks.cube.read_scene import SceneRead, read_scene, windows_at
from tasks.readers.contract import Reader

if TYPE_CHECKING:
    from catalog.archives import Archive


@dataclass(frozen=True)
class ReadOrder:
    """A scene to be read at some places, as it may travel to another process."""

    scene: Scene
    product: Product
    request: ProductRequest
    locations: Sequence[Location]
    reader: Reader
    archive: Archive

    def read(self) -> SceneRead:
        """See ``read_scene``."""
        windows = windows_at(self.product, self.locations)
        return read_scene(self.scene, self.product, self.request, windows, self.reader, self.archive)


class Reading(Protocol):
    """Where scenes are read: in threads of this process, or on workers elsewhere."""

    @property
    def in_flight(self) -> int:
        """Scenes that are asked for at a time."""
        ...

    def submit(self, order: ReadOrder) -> Future[SceneRead]:
        """Begin to read; the future raises ``SceneError`` where the scene cannot be used."""
        ...


class ThreadReading:
    """Reads in threads of this process."""

    def __init__(self, in_flight: int) -> None:
        self.in_flight = in_flight
        self._pool = ThreadPoolExecutor(in_flight, thread_name_prefix="swath-cube")

    def submit(self, order: ReadOrder) -> Future[SceneRead]:
        return self._pool.submit(order.read)

    def close(self) -> None:
        """Wait for what has begun."""
        self._pool.shutdown(wait=True)


@dataclass(frozen=True)
class _Job:
    """One scene on its way."""

    scene: Scene
    touched: Rows
    result: Future[SceneRead] | str
    """Its read, or why it is not read."""


class ReadAhead:
    """Scenes with what came of them, in the choice's order, a few of them being read at a time.

    Where what a scene gives decides what others are needed for, those wait that show the same places.
    """

    def __init__(
        self,
        scenes: Sequence[Scene],
        product: Product,
        request: ProductRequest,
        places: PlaceIndex,
        choice: Choice,
        reader: Reader,
        archive: Archive,
        held: HeldScenes,
        reading: Reading,
    ) -> None:
        self._scenes = deque(choice.order(scenes))
        self._reading = reading
        self._queue: deque[_Job] = deque()
        self._places = places
        self._choice = choice
        self._held = held

        def order(scene: Scene, rows: Rows) -> ReadOrder:
            return ReadOrder(scene, product, request, places.at(rows), reader, archive)

        self._order = order

    def __enter__(self) -> Iterator[tuple[Scene, SceneRead | SceneError | str]]:
        return self._results()

    def __exit__(self, *error: object) -> None:
        jobs = [job.result for job in self._queue if isinstance(job.result, Future)]
        for job in jobs:
            if not job.cancel():
                # Nobody takes what comes of it.
                job.add_done_callback(_drop)

    def _results(self) -> Iterator[tuple[Scene, SceneRead | SceneError | str]]:
        self._start()
        while self._queue:
            job = self._queue.popleft()
            yield job.scene, self._outcome(job)
            self._start()

    def _outcome(self, job: _Job) -> SceneRead | SceneError | str:
        if isinstance(job.result, str):
            return job.result
        try:
            read = job.result.result()
        except SceneError as error:
            return error
        taken = sorted(self._places.row_of[name] for name in read.taken)
        self._choice.took(job.scene, np.asarray(taken, np.int64))
        self._start()
        return read

    def _start(self) -> None:
        while self._scenes and len(self._queue) < self._reading.in_flight:
            scene = self._scenes[0]
            touched = self._places.touched(scene)
            if not self._choice.independent and any(
                len(np.intersect1d(touched, job.touched, assume_unique=True)) for job in self._queue
            ):
                return
            self._scenes.popleft()
            needed = self._choice.needed(scene, touched)
            known = self._held.judged.get(scene.id, frozenset())
            if known:
                new = [row for row in needed.tolist() if self._places.locations[row].id not in known]
                needed = np.asarray(new, np.int64)
            if len(needed):
                future = self._reading.submit(self._order(scene, needed))
                self._queue.append(_Job(scene, touched, future))
            else:
                self._queue.append(_Job(scene, touched[:0], self._choice.why_not(scene, touched)))


def _drop(future: Future[SceneRead]) -> None:
    if not future.cancelled() and future.exception() is None:
        future.result().spool.close()
