"""The contact sheet shows every scene."""

from __future__ import annotations

from pathlib import Path

from matplotlib.image import imread

from deployments.sandbox import SandboxInfo
from deployments.sandbox.preview import contact_sheet


def test_the_contact_sheet_has_a_picture_of_every_scene(archive: SandboxInfo, tmp_path: Path) -> None:
    sheet = imread(contact_sheet(archive, tmp_path / "sheet.png", columns=8))
    tiles = sum(map(len, archive.scenes.values())) + 2
    assert sheet.shape[1] == 8 * 3 * 80
    assert abs(sheet.shape[0] - -(-tiles // 8) * 3.15 * 80) < 2
    coloured = (sheet[..., :3].max(axis=2) - sheet[..., :3].min(axis=2)) > 0.05
    assert coloured.mean() > 0.3
