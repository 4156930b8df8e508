"""Processes that register at once, over a bucket (``make test-all``); see ``test_encoders``."""

# ruff: noqa: F401 - fixtures and tests are imported by name

from __future__ import annotations

import pytest

from tests.catalog.test_encoders import (
    catalog,
    folder,
    test_processes_that_register_one_name_together_get_versions_of_their_own,
    test_processes_that_register_the_same_run_together_make_one_encoder,
)
from tests.object_store.test_encoders import settings

pytestmark = pytest.mark.long
