"""A dead encoder is refused by the flow itself, and does not stand in the way of a living one."""

from __future__ import annotations

from typing import Any

import pytest

from tests.flows.installation import CHEAP, Installation, settings_of

STILL = (
    *CHEAP,
    "pretrain.0.encoder=living",
    "pretrain.1.encoder=still",
    # So small a learning rate that no weight moves: the encoder stays what it was at its start.
    "pretrain.1.optimiser.learning_rate=1.0e-12",
    "pretrain.1.optimiser.weight_decay=0",
)


@pytest.mark.long
def test_a_dead_encoder_is_refused_while_the_other_is_registered_and_the_report_is_written(
    home: Installation, made: dict[str, Any]
) -> None:
    reports = set((home.home / "runs").glob("data-to-model-*/report.html"))

    done = home.swath("run", "data-to-model", "--recipe", "sandbox", *settings_of(STILL))

    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "still" in errors[0]
    assert "encoder-dead" in errors[0]
    assert "untrained" in errors[0] or "weights" in errors[0]
    assert home.json("encoders", "show", "living")["name"] == "living"
    assert home.swath("encoders", "show", "still").returncode == 1
    (report,) = set((home.home / "runs").glob("data-to-model-*/report.html")) - reports
    page = report.read_text(encoding="utf-8")
    assert "refused" in page
    assert "still" in page
