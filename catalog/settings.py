"""Where Swath keeps things: the ``SWATH_*`` variables, resolved to absolute paths once per call."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Resolved configuration of this process."""

    home: Path
    """Folder of everything this installation makes (``SWATH_HOME``, default ``./var``)."""
    database_url: str
    """SQLAlchemy URL of the ledger and the encoder catalog (``SWATH_DATABASE_URL``)."""
    store: str
    """Folder or ``s3://`` prefix of cubes and encoders (``SWATH_STORE``)."""

    @property
    def runs(self) -> Path:
        """Folder with one folder per run."""
        return self.home / "runs"

    @property
    def store_is_local(self) -> bool:
        return "://" not in self.store

    @property
    def store_path(self) -> Path:
        """The store as a folder; only for a local store."""
        if not self.store_is_local:
            raise ValueError(f"{self.store} is not a local folder")
        return Path(self.store)


def load_settings() -> Settings:
    """Read ``SWATH_HOME``, ``SWATH_DATABASE_URL`` and ``SWATH_STORE`` from the environment."""
    home = Path(os.environ.get("SWATH_HOME") or "var").expanduser().resolve()
    database_url = os.environ.get("SWATH_DATABASE_URL") or f"sqlite:///{home / 'swath.db'}"
    store = os.environ.get("SWATH_STORE") or str(home / "store")
    if "://" not in store:
        store = str(Path(store).expanduser().resolve())
    return Settings(home=home, database_url=database_url, store=store.rstrip("/"))
