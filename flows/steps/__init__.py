"""Prefect tasks: thin calls of what ``tasks/`` does, named so that a run reads like a sentence."""

from __future__ import annotations

from typing import Any

from prefect.cache_policies import NO_CACHE

PLAIN: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}
"""Prefect caches nothing: idempotence is the ledger's and the run identity's business (design decision 7)."""
