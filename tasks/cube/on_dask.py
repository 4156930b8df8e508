"""Cubing on Dask workers: tasks that read a scene into the staging area, and tasks that write a whole chunk.

One process, the one that calls ``cube_scenes``, chooses scenes, puts samples into rows, and commits; workers
return what they staged, and references to the chunks they wrote. A task that runs twice, because its worker
died or was thought to, changes nothing: staged objects and chunks get new names each time, and only those
count that a result names. The cube is bit for bit the one that a single process makes.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import icechunk

from catalog.cubes import layout
from catalog.cubes.pixels import Rows, grow, write_rows
from catalog.cubes.place import Place, quieten
from catalog.cubes.sample_checks import check_sample
from catalog.cubes.spool import Spool, Spooled
from catalog.errors import SceneError, SwathError
from catalog.products import Product
from catalog.samples import Sample
from tasks.cube.read_ahead import ReadOrder
from tasks.cube.read_scene import SceneRead
from tasks.cube.staging import Staging, staging_area

if TYPE_CHECKING:
    import distributed

logger = logging.getLogger(__name__)

RETRIES = 2
"""Of a task that fails for another reason than its scene. Lost workers are Dask's to count: after
``distributed.scheduler.allowed-failures`` of them (3) a task is given up."""
SCENES_PER_THREAD = 2
"""Asked for at a time, so that no worker waits for the next scene to be chosen."""
WORKERS_TIMEOUT_S = 120.0
"""How long the first worker is waited for."""


class ClusterError(SwathError):
    """A Dask cluster cannot be used, or was lost."""


class WorkerLost(SceneError):
    """Every worker that read a scene died of it, or with it."""

    may_pass = True


@dataclass(frozen=True)
class DaskCubing:
    """The two halves of cubing, on one cluster: for ``cube_scenes`` and for ``Cube.write``."""

    reading: DaskReading
    writing: DaskWriting


@contextmanager
def cubing_on(client: distributed.Client, place: Place) -> Iterator[DaskCubing]:
    """Cube on the workers of a cluster that can all reach the archive and the store.

    ``with cubing_on(client, cube.place) as dask, cube.write("…", pixels=dask.writing) as writer:`` and then
    ``cube_scenes(…, writer=writer, reading=dask.reading)``.

    Raises
    ------
    ClusterError: ``no-workers``, ``cluster-lost``.
    """
    try:
        client.wait_for_workers(1, timeout=WORKERS_TIMEOUT_S)
    except TimeoutError as error:
        raise ClusterError(
            "no-workers",
            f"no worker has joined the scheduler in {WORKERS_TIMEOUT_S:g} s",
            subject=_address(client),
            next_step="start workers (`dask worker ADDRESS`) with Swath installed, then rerun",
        ) from error
    with staging_area(place) as staging:
        reading = DaskReading(client, staging)
        try:
            yield DaskCubing(reading, DaskWriting(client, staging))
        finally:
            reading.cancel()


class DaskReading:
    """Reads scenes on workers; see ``tasks.cube.read_ahead.Reading``."""

    def __init__(self, client: distributed.Client, staging: Staging) -> None:
        self._client: Any = client
        self._staging = staging
        self._tasks: set[Any] = set()
        self.in_flight = SCENES_PER_THREAD * self._threads()

    def submit(self, order: ReadOrder) -> Future[SceneRead]:
        outcome: Future[SceneRead] = Future()
        task = self._client.submit(stage_scene, order, self._staging, pure=False, retries=RETRIES)
        self._tasks.add(task)
        task.add_done_callback(partial(self._settle, outcome, order.scene.id))
        return outcome

    def cancel(self) -> None:
        """Let go of what has not ended."""
        if self._tasks:
            self._client.cancel(list(self._tasks))
            self._tasks.clear()

    def _threads(self) -> int:
        return int(sum(self._client.nthreads().values()))

    def _settle(self, outcome: Future[SceneRead], scene: str, task: Any) -> None:
        """Called by the client when a task has ended, in a thread of its own."""
        from distributed.scheduler import KilledWorker

        self._tasks.discard(task)
        if not outcome.set_running_or_notify_cancel():
            return
        try:
            found = _result(task.result)
        except KilledWorker as error:
            outcome.set_exception(
                WorkerLost(
                    "worker-lost",
                    f"the workers that read it died: {_in_one_line(error)}",
                    subject=scene,
                    next_step="see the workers' logs; give them more memory if the system killed them",
                )
            )
        except BaseException as error:
            outcome.set_exception(error)
        else:
            if isinstance(found, SceneError):
                outcome.set_exception(found)
            else:
                outcome.set_result(found)


class DaskWriting:
    """Writes pixels on workers, one task for each chunk; see ``catalog.cubes.pixels.PixelWriting``."""

    def __init__(self, client: distributed.Client, staging: Staging) -> None:
        self._client: Any = client
        self._staging = staging

    def write(
        self, session: icechunk.Session, product: Product, spool: Spool, new: Sequence[Spooled]
    ) -> None:
        from distributed import as_completed
        from distributed.scheduler import KilledWorker

        chunks = grow(layout.open_root(session.store, write=True), product, new)
        # A fork knows the arrays as they are in the session now; as bytes, so that no two tasks share one.
        fork = pickle.dumps(session.fork())
        tasks = self._client.map(
            write_chunk,
            chunks,
            fork=fork,
            staging=self._staging,
            pure=False,
            retries=RETRIES,
        )
        try:
            for task in as_completed(tasks, loop=self._client.loop):  # type: ignore[no-untyped-call]
                session.merge(pickle.loads(_result(task.result)))  # noqa: S301
                task.release()
        except KilledWorker as error:
            raise ClusterError(
                "worker-lost",
                f"the workers that wrote a chunk of {product.id} died: {_in_one_line(error)}",
                subject=product.id,
                next_step="see the workers' logs, then rerun; nothing was committed",
            ) from error
        finally:
            self._client.cancel(tasks)

    def committed(self, samples: Iterator[Spooled]) -> None:
        self._staging.drop(sample.source for sample in samples)


def stage_scene(order: ReadOrder, staging: Staging) -> SceneRead | SceneError:
    """On a worker: read a scene and stage its samples; a scene that cannot be used is a result as well."""
    try:
        read = order.read()
    except SceneError as error:
        return error
    with closing(read.spool):
        return replace(read, spool=staging.put(_checked(order.product, read.spool)))


def write_chunk(rows: Rows, *, fork: bytes, staging: Staging) -> bytes:
    """On a worker: write a chunk's rows; returns the forked session, which holds the references."""
    quieten()
    session: icechunk.ForkSession = pickle.loads(fork)  # noqa: S301
    pixels = staging.fetch(rows.samples)
    write_rows(layout.open_root(session.store, write=True), rows, pixels.read)
    return pickle.dumps(session)


def _checked(product: Product, samples: Any) -> Iterator[Sample]:
    for sample in samples:
        check_sample(product, sample)
        yield sample


def _result[T](result: Callable[[], T]) -> T:
    """A task's result; where it is lost with the cluster, the run fails in one line."""
    try:
        return result()
    except (CancelledError, ConnectionError) as error:
        raise ClusterError(
            "cluster-lost",
            f"the scheduler gave up what it was asked for: {_in_one_line(error)}",
            next_step="see the scheduler's log, then rerun; nothing half-done is in the cube",
        ) from error


def _address(client: distributed.Client) -> str:
    return str(client.scheduler.address) if client.scheduler is not None else ""


def _in_one_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
