"""What must stand in the environment before Prefect is imported: no telemetry, its own home, calm logs."""

from __future__ import annotations

import logging
import os

from catalog.errors import SwathError
from catalog.settings import Settings, load_settings
from flows.memory import share_arenas

QUIET = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "False",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "ALBUMENTATIONS_OFFLINE": "1",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}
"""Switches that keep every library from calling home."""

PATIENT = {"OMP_WAIT_POLICY": "PASSIVE"}
"""Threads of torch sleep while they wait: where processes share cores, spinning slows all of them down."""


def prepare_environment(settings: Settings | None = None) -> Settings:
    """Switch telemetry off and keep Prefect's files under ``SWATH_HOME``; what the user set stays.

    Child processes (Prefect's server, torchrun) inherit it; ``SWATH_HOME`` is pinned to its absolute path so
    that a change of folder does not move it.
    """
    settings = settings or load_settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    for name, value in (QUIET | PATIENT).items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_HOME", str(settings.home / "prefect"))
    os.environ["SWATH_HOME"] = str(settings.home)
    calm_logs()
    share_arenas()
    return settings


class OnlyWarnings(logging.Filter):
    """Holds against a library that sets the level of its own logger when it is imported."""

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.WARNING


class OneLineErrors(logging.Filter):
    """Lets a known error be one line: its message says what happened and what to do, a traceback does not."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if isinstance(error, SwathError):
            record.msg, record.args, record.exc_info = "%s", (str(error),), None
        return True


def calm_logs() -> None:
    """Known errors are logged without a traceback, and chatty libraries only when something is wrong."""
    one_line = OneLineErrors()
    for name in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(name).addFilter(one_line)
    for name in ("great_expectations", "httpx", "botocore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("EventsWorker").setLevel(logging.ERROR)  # it warns that it waits for the last event
    logging.getLogger("great_expectations.data_context.types.base").addFilter(OnlyWarnings())
