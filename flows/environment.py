"""What must stand in the environment before Prefect and Great Expectations are imported: no telemetry, own home."""

from __future__ import annotations

import os

from catalog.settings import Settings, load_settings

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


def prepare_environment(settings: Settings | None = None) -> Settings:
    """Switch telemetry off and keep Prefect's files under ``SWATH_HOME``; what the user set stays.

    Child processes (Prefect's server, torchrun) inherit it; ``SWATH_HOME`` is pinned to its absolute path so
    that a change of folder does not move it.
    """
    settings = settings or load_settings()
    settings.home.mkdir(parents=True, exist_ok=True)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_HOME", str(settings.home / "prefect"))
    os.environ["SWATH_HOME"] = str(settings.home)
    return settings
