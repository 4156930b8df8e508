"""Fixtures that every room shares."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def realdata() -> Path:
    """The folder of real scenes: ``SWATH_REALDATA``, or ``shared/data`` beside the repository."""
    folder = Path(os.environ.get("SWATH_REALDATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real scenes: {folder} is missing; name their folder in SWATH_REALDATA")
    return folder
