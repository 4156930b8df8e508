"""Whatever the members of a zip file are called, nothing is written outside its folder."""

from __future__ import annotations

import tempfile
import warnings
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from catalog.errors import UsageError
from deployments.stac_server.conversions import find_conversion

PARTS = st.sampled_from(["..", ".", "", "a", "b.tif", "C:", "\\", "..\\..", "/etc", "~", "\n", "é"])


def unpack(packed: Path, out: Path, members: str = r"(?s).*") -> list[Path]:
    return [made.path for made in find_conversion("unpack-zip")(packed, {"members": members}, out)]


@given(st.lists(st.lists(PARTS, min_size=1, max_size=4).map("/".join), max_size=5))
def test_no_name_of_a_member_leads_out_of_the_folder(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        with zipfile.ZipFile(root / "x.zip", "w") as sink, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a name that comes twice
            for name in names:
                sink.writestr(name or "z", b"pixels")
        before = set(root.rglob("*"))
        try:
            made = unpack(root / "x.zip", root / "out")
        except UsageError as error:
            assert "has no file name of its own" in error.message
            made = []
        assert all(path.parent == root / "out" / "x" and path.read_bytes() == b"pixels" for path in made)
        new = set(root.rglob("*")) - before
        assert all(path.is_relative_to(root / "out") for path in new)


def test_two_members_of_one_name_are_refused_and_not_mixed_up(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as sink:
        sink.writestr("a/B4.tif", b"1")
        sink.writestr("b/B4.tif", b"2")
    with pytest.raises(UsageError, match="B4"):
        unpack(tmp_path / "x.zip", tmp_path / "out")


def test_a_member_that_grows_beyond_reason_is_refused_before_it_is_written(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as sink:
        sink.writestr("B4.tif", bytes(2**20))
    content = (tmp_path / "x.zip").read_bytes()
    # The directory at the end states the size of what is unpacked; say 4 GB.
    at = content.rindex(b"PK\x01\x02") + 24
    (tmp_path / "x.zip").write_bytes(content[:at] + (2**32 - 2).to_bytes(4, "little") + content[at + 4 :])
    with pytest.raises(UsageError, match="grows to"):
        unpack(tmp_path / "x.zip", tmp_path / "out")
    assert not list((tmp_path / "out" / "x").iterdir())
