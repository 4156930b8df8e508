"""Tests of the encoder catalog on a local disk, over a bucket; and weights whose upload fails."""

# ruff: noqa: F401, F811 - fixtures and tests are imported by name

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from catalog.encoders import Catalog, open_catalog
from catalog.errors import EncoderError
from catalog.settings import Settings, load_settings
from tests.catalog.encoder_folders import encoder_folder
from tests.catalog.test_encoders import (
    catalog,
    folder,
    register,
    test_a_plain_name_is_production_and_else_the_latest,
    test_a_pull_to_a_folder_is_complete_and_repeats_nothing,
    test_an_encoder_travels_to_another_installation,
    test_from_a_scene_one_gets_every_encoder_that_drew_from_it,
    test_lineage_names_every_sample_its_pixels_and_where_they_came_from,
    test_the_folder_holds_the_same_bytes_and_a_valid_stac_item,
    test_the_next_registration_is_the_next_version,
    test_the_same_run_returns_the_encoder_it_made,
)
from tests.object_store.faulty_proxy import Fault, FaultyProxy
from tests.object_store.s3_server import S3Server

REGISTERED = {
    "model.safetensors",
    "config.json",
    "manifest.json",
    "item.json",
    "samples.jsonl.gz",
    "scenes.json",
}


@pytest.fixture
def settings(swath_home: Path) -> Iterator[Settings]:
    """Those that imported tests ask for: SQLite beside the bucket. Clients are made anew for each test."""
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    yield load_settings()
    s3fs.S3FileSystem.clear_instance_cache()


def stored(s3: S3Server, bucket: str) -> set[str]:
    return {key.rpartition("/")[2] for key in s3.keys(bucket, "team/encoders/")}


def test_a_registration_that_fails_is_seen_by_nobody(
    catalog: Catalog,
    folder: Path,
    s3: S3Server,
    bucket: str,
) -> None:
    with pytest.raises(TypeError):
        register(catalog, folder, scenes=[("sentinel-2-l2a", "S1"), (3, 4)])
    assert catalog.search() == []
    # Its objects lie there: had the row been committed without an answer, they would be the encoder's.
    assert register(catalog, folder).version == 1
    assert stored(s3, bucket) == REGISTERED


@pytest.mark.parametrize("file", ["model.safetensors", "samples.jsonl.gz"])
@pytest.mark.parametrize("harm", ["lost", "changed"])
def test_a_file_that_is_lost_or_changed_in_the_bucket_is_not_pulled(
    catalog: Catalog,
    folder: Path,
    s3: S3Server,
    bucket: str,
    file: str,
    harm: str,
    tmp_path: Path,
) -> None:
    encoder = register(catalog, folder)
    key = next(key for key in s3.keys(bucket) if key.endswith(file))
    if harm == "lost":
        s3.client().delete_object(Bucket=bucket, Key=key)
    else:
        s3.client().put_object(Bucket=bucket, Key=key, Body=b"other")
    assert len(catalog.verify(encoder.ref)) == 1
    with pytest.raises(EncoderError) as caught:
        encoder.pull(tmp_path / "here")
    assert caught.value.code == ("file-missing" if harm == "lost" else "checksum-mismatch")
    assert not (tmp_path / "here" / file).exists()


FAULTS = {
    "throttled": [Fault("503", rate=0.2)],
    "errors inside the store": [Fault("500", rate=0.2)],
    "dropped connections": [Fault("drop", rate=0.2)],
    "uploads cut in the middle": [Fault("cut-upload", "PUT", rate=0.4)],
    "uploads taken, answers lost": [Fault("taken-then-dropped", "PUT", rate=0.4)],
    "every upload of weights cut in the middle": [Fault("cut-upload", "PUT", "*model.safetensors*")],
    "the last document refused": [Fault("500", "PUT", "*manifest.json*")],
    "gone after three requests": [Fault("gone", after=3, times=1)],
    "gone after six requests": [Fault("gone", after=6, times=1)],
}


QUICK = {"uploads taken, answers lost", "the last document refused", "gone after six requests"}


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(faults, id=kind, marks=[] if kind in QUICK else [pytest.mark.long])
        for kind, faults in FAULTS.items()
    ],
)
def test_an_encoder_is_registered_whole_or_not_at_all(
    faults: list[Fault],
    proxy: FaultyProxy,
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    made = encoder_folder(tmp_path / "run" / "encoder")
    own = open_catalog(settings)
    proxy.fail(*faults, seed=2)
    try:
        register(own, made)
    except EncoderError as error:
        assert error.code == "store-unreachable"
        assert "\n" not in str(error)
        assert own.search() == []
    proxy.come_back()
    for encoder in own.search():
        assert own.verify(encoder.ref) == []
    encoder = register(own, made)
    assert (encoder.version, own.verify(encoder.ref)) == (1, [])
    pulled = encoder.pull(tmp_path / "pulled")
    assert (pulled / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()
    own.engine.dispose()


def test_a_pull_through_a_failing_store_brings_every_byte_or_says_so(
    proxy: FaultyProxy, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    made = encoder_folder(tmp_path / "run" / "encoder")
    own = open_catalog(settings)
    encoder = register(own, made)
    for seed in range(3):
        target = tmp_path / f"pulled-{seed}"
        proxy.fail(Fault("cut-answer", "GET", rate=0.3), Fault("500", "GET", rate=0.2), seed=seed)
        try:
            encoder.pull(target)
        except EncoderError as error:
            assert error.code == "store-unreachable"
            assert "\n" not in str(error)
        proxy.fail()
        encoder.pull(target)
        for file in ("model.safetensors", "samples.jsonl.gz"):
            assert (target / file).read_bytes() == (made / file).read_bytes()
    proxy.fail(Fault("500"))
    with pytest.raises(EncoderError, match="store-unreachable"):
        encoder.pull(tmp_path / "never")
    with pytest.raises(EncoderError, match="store-unreachable"):
        own.verify(encoder.ref)
    with pytest.raises(EncoderError, match="store-unreachable"):
        own.lineage(encoder.ref)
    own.engine.dispose()
