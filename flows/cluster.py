"""Where cubing runs: in this process, on a Dask cluster made for the run, or on the one at an address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from catalog.errors import UsageError

if TYPE_CHECKING:
    from catalog.cubes.place import Place
    from tasks.cube.on_dask import DaskCubing

CONNECT_TIMEOUT_S = 20


@dataclass(frozen=True)
class Cluster:
    """What a run asks for; nothing: this process alone."""

    workers: int | None = None
    """Processes of a local cluster that lives as long as the run needs it."""
    scheduler: str | None = None
    """Address of a scheduler, ``tcp://HOST:PORT``; its workers have Swath, and reach archive and store."""

    def __post_init__(self) -> None:
        if self.workers is not None and self.scheduler is not None:
            raise UsageError(
                "two-clusters",
                "a run makes a cluster of its own (workers) or uses one (scheduler), not both",
                next_step="give one of the two",
            )
        if self.workers is not None and self.workers < 1:
            raise UsageError(
                "no-workers-asked",
                f"{self.workers} workers cannot cube anything",
                subject="workers",
                next_step="ask for 1 or more, or leave it out to cube in the run's own process",
            )

    @contextmanager
    def cubing(self, place: Place) -> Iterator[DaskCubing | None]:
        """Workers to cube with, started or connected to now; None where this process does it itself.

        The task runner is entered here instead of being given to the flow, so that a run that finds nothing
        to cube starts no cluster, and so that choosing scenes and committing stay in this process, which
        alone has the ledger.

        Raises
        ------
        ClusterError: ``scheduler-unreachable``, and those of ``cubing_on``.
        """
        if self.workers is None and self.scheduler is None:
            yield None
            return
        from tasks.cube.on_dask import ClusterError, cubing_on

        with self._runner() as runner:
            try:
                client = runner.client
            except (OSError, ValueError) as error:
                raise ClusterError(
                    "scheduler-unreachable",
                    f"no Dask scheduler answers: {(str(error).splitlines() or [type(error).__name__])[0]}",
                    subject=self.scheduler or "local cluster",
                    next_step="start one (`dask scheduler`), or correct the address, then rerun",
                ) from error
            with cubing_on(client, place) as dask:
                yield dask

    def _runner(self) -> Any:
        from prefect_dask.task_runners import DaskTaskRunner

        if self.scheduler is not None:
            return DaskTaskRunner(address=self.scheduler, client_kwargs={"timeout": CONNECT_TIMEOUT_S})
        return DaskTaskRunner(
            cluster_kwargs={
                "n_workers": self.workers,
                "threads_per_worker": 1,
                "processes": True,
                # A dashboard is a port that others can reach, and needs packages that nothing else here does.
                "dashboard_address": None,
            }
        )


IN_PROCESS = Cluster()
"""No cluster: threads of the run's own process."""
