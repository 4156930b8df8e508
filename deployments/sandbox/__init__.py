"""The sandbox archive's content: simulated scenes of four sensors over one invented landscape."""

from __future__ import annotations

from deployments.sandbox.make import SandboxInfo, make_sandbox

__all__ = ["SandboxInfo", "make_sandbox"]
