"""The encoder catalog: versions, references, checksums, lineage, and what a kill leaves behind."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from catalog import open_catalog as open_catalog_of_the_package
from catalog.encoders import Catalog, Encoder, open_catalog
from catalog.errors import EncoderError
from catalog.lineage import read_samples, read_scenes, write_samples, write_scenes
from catalog.mlm import mlm_problems
from catalog.settings import Settings
from tests.catalog.encoder_folders import CONFIG, encoder_folder, manifest, mlm_item, sample, scene

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = "sentinel-2-l2a"


@pytest.fixture
def catalog(settings: Settings) -> Iterator[Catalog]:
    opened = open_catalog(settings)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return encoder_folder(tmp_path / "run" / "encoder")


def register(catalog: Catalog, folder: Path, identity: str | None = "id-1", **more: Any) -> Encoder:
    values: dict[str, Any] = {
        "name": "s2-moco",
        "metrics": {"knn": 0.8},
        "mlm_item": mlm_item(),
        "scenes": [],
    }
    values |= {key: more.pop(key) for key in tuple(more) if key in values}
    return catalog.register(folder, manifest(identity, **more), **values)


def refused(code: str) -> Any:
    """An EncoderError with this code, a next step, and nothing registered by accident."""
    return pytest.raises(EncoderError, check=lambda error: error.code == code and bool(error.next_step))


# ---------------------------------------------------------------------- registering


def test_a_registered_encoder_comes_back_with_everything_it_was_made_from(
    catalog: Catalog, folder: Path
) -> None:
    encoder = register(catalog, folder)
    assert (encoder.name, encoder.version, encoder.ref) == ("s2-moco", 1, "s2-moco@1")
    assert (encoder.product, encoder.products, encoder.method) == (PRODUCT, (PRODUCT,), "moco")
    stored = encoder.manifest
    assert stored["format"] == 1
    assert stored["samples"] == 4
    assert stored["metrics"] == {"knn": 0.8}
    assert stored["snapshots"] == {"sandbox": "SNAP1"}
    assert stored["licences"] == [
        {
            "licence": "proprietary",
            "attribution": "contains modified Copernicus data",
            "products": [PRODUCT],
            "scenes": 2,
        }
    ]
    assert set(stored["files"]) == {
        "model.safetensors",
        "config.json",
        "samples.jsonl.gz",
        "scenes.json",
        "item.json",
    }
    assert catalog.get("s2-moco") == encoder


def test_the_folder_holds_the_same_bytes_and_a_valid_stac_item(catalog: Catalog, folder: Path) -> None:
    pulled = register(catalog, folder).pull()
    for file in ("model.safetensors", "config.json", "samples.jsonl.gz", "scenes.json"):
        assert (pulled / file).read_bytes() == (folder / file).read_bytes()
    item = json.loads((pulled / "item.json").read_text())
    assert mlm_problems(item) == []
    assert item["id"] == "s2-moco-v1"
    stored = json.loads((pulled / "manifest.json").read_text())
    assert item["assets"]["model"]["file:checksum"] == f"1220{stored['files']['model.safetensors']['sha256']}"
    assert stored["version"] == 1


def test_the_next_registration_is_the_next_version(catalog: Catalog, folder: Path) -> None:
    assert [register(catalog, folder, f"id-{i}").version for i in range(3)] == [1, 2, 3]
    assert register(catalog, folder, "id-9", name="other").version == 1


def test_the_same_run_returns_the_encoder_it_made(catalog: Catalog, folder: Path) -> None:
    first = register(catalog, folder, "id-1")
    (folder / "config.json").write_text("{}")
    assert register(catalog, folder, "id-1") == first
    assert len(catalog.search()) == 1
    assert register(catalog, folder, None).version == 2
    assert register(catalog, folder, None).version == 3


def test_figures_that_json_cannot_hold_become_null(catalog: Catalog, folder: Path) -> None:
    encoder = register(catalog, folder, metrics={"knn": float("nan"), "worst": float("-inf")})
    assert encoder.manifest["metrics"] == {"knn": None, "worst": None}
    assert catalog.verify(encoder.ref) == []


@pytest.mark.parametrize("lacking", ["run_id", "recipe", "snapshots", "seeds", "vitality", "bands"])
def test_a_manifest_that_lacks_something_is_refused(catalog: Catalog, folder: Path, lacking: str) -> None:
    given = manifest()
    del given[lacking]
    with refused("invalid-manifest"):
        catalog.register(folder, given, name="s2-moco", metrics={}, mlm_item=mlm_item())
    assert catalog.search() == []


@pytest.mark.parametrize("given", [{"products": []}, {"method": ""}, {"recipe": {"path": Path("x")}}])
def test_a_manifest_that_makes_no_sense_is_refused(catalog: Catalog, folder: Path, given: Any) -> None:
    with refused("invalid-manifest"):
        register(catalog, folder, **given)


@pytest.mark.parametrize("name", ["", "Upper", "../evil", "a/b", ".hidden", "a b", "s2@3"])
def test_a_name_that_is_no_safe_folder_is_refused(catalog: Catalog, folder: Path, name: str) -> None:
    with refused("invalid-name"):
        register(catalog, folder, name=name)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_folder_without_weights_or_config_is_refused(catalog: Catalog, folder: Path, file: str) -> None:
    (folder / file).unlink()
    with refused("file-missing"):
        register(catalog, folder)


@pytest.mark.parametrize("file", ["model.pth", "deep/state.PT", "x.pkl", "last.ckpt"])
def test_a_folder_with_pickles_is_refused(catalog: Catalog, folder: Path, file: str) -> None:
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_bytes(b"x")
    with refused("unsafe-file"):
        register(catalog, folder)


def test_a_folder_with_links_is_refused(catalog: Catalog, folder: Path) -> None:
    (folder / "passwd").symlink_to("/etc/passwd")
    with refused("unsafe-file"):
        register(catalog, folder)


def test_weights_made_from_a_cube_must_name_their_samples(catalog: Catalog, folder: Path) -> None:
    (folder / "samples.jsonl.gz").unlink()
    with refused("incomplete-lineage"):
        register(catalog, folder)
    imported = register(catalog, folder, snapshots={}, run_id=None, identity=None)
    assert catalog.lineage(imported.ref)["samples"] == []


def test_a_sample_of_a_scene_that_is_not_named_is_refused(catalog: Catalog, folder: Path) -> None:
    write_samples(folder, [sample("S9", "l1", 0)])
    with refused("incomplete-lineage"):
        register(catalog, folder)


def test_a_sample_without_checksum_is_refused(catalog: Catalog, folder: Path) -> None:
    write_samples(folder, [sample("S1", "l1", 0) | {"sha256": ""}])
    with refused("incomplete-lineage"):
        register(catalog, folder)


# ---------------------------------------------------------------------- finding


def test_a_plain_name_is_production_and_else_the_latest(catalog: Catalog, folder: Path) -> None:
    for i in range(3):
        register(catalog, folder, f"id-{i}")
    assert catalog.get("s2-moco").version == 3
    promoted = catalog.promote("s2-moco@2")
    assert promoted.aliases == ("production",)
    assert catalog.get("s2-moco").version == 2
    assert catalog.get("s2-moco:production").version == 2
    assert catalog.get("s2-moco@3").version == 3
    assert catalog.get("s2-moco@latest").version == catalog.get("s2-moco:latest").version == 3
    catalog.promote("s2-moco@1", "candidate")
    catalog.promote("s2-moco@1")
    assert catalog.get("s2-moco").aliases == ("candidate", "production")
    assert catalog.get("s2-moco@2").aliases == ()


@pytest.mark.parametrize(
    ("ref", "code"),
    [
        ("s2-mocco", "encoder-not-found"),
        ("s2-moco@7", "version-not-found"),
        ("s2-moco:production", "alias-not-found"),
        ("s2-moco@", "bad-reference"),
        ("s2-moco@three", "bad-reference"),
        ("../s2", "bad-reference"),
    ],
)
def test_a_reference_to_nothing_says_what_there_is(
    catalog: Catalog, folder: Path, ref: str, code: str
) -> None:
    register(catalog, folder)
    with refused(code) as caught:
        catalog.get(ref)
    if code == "encoder-not-found":
        assert "s2-moco" in caught.value.message


@pytest.mark.parametrize("alias", ["latest", "Prod", "a/b", ""])
def test_an_alias_that_could_mislead_is_refused(catalog: Catalog, folder: Path, alias: str) -> None:
    register(catalog, folder)
    with refused("invalid-alias"):
        catalog.promote("s2-moco@1", alias)


def test_a_search_narrows_by_words_product_and_method(catalog: Catalog, folder: Path) -> None:
    register(catalog, folder, "a")
    register(catalog, folder, "b", name="s1-mae", method="mae", products=["sentinel-1-rtc"])
    register(catalog, folder, "c", name="both", method="mae", products=[PRODUCT, "sentinel-1-rtc"])

    def found(*words: Any, **where: Any) -> list[str]:
        return [encoder.name for encoder in catalog.search(*words, **where)]

    assert found() == ["both", "s1-mae", "s2-moco"]
    assert found(limit=1) == ["both"]
    assert found("demo MOCO") == ["s2-moco"]
    assert found("b02 sentinel-1") == ["both", "s1-mae"]
    assert found("s_-") == found("100%") == []
    assert found(product=PRODUCT) == ["both", "s2-moco"]
    assert found(method="mae", product=PRODUCT) == ["both"]


def test_the_package_opens_the_catalog_of_the_environment(catalog: Catalog, folder: Path) -> None:
    register(catalog, folder)
    assert open_catalog_of_the_package().get("s2-moco:latest").manifest["samples"] == 4


def test_searching_is_light_and_answers_at_once(catalog: Catalog, folder: Path) -> None:
    for i in range(30):
        register(catalog, folder, f"id-{i}")
    code = textwrap.dedent("""
        import sys
        from catalog.encoders import open_catalog
        print(len(open_catalog().search("moco", product="sentinel-2-l2a")))
        heavy = "torch prefect alembic pandas rasterio great_expectations zarr icechunk fsspec pystac numpy"
        print([name for name in heavy.split() if name in sys.modules])
    """)
    before = os.times()
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    after = os.times()
    assert answer.stdout.split("\n")[:2] == ["30", "[]"]
    # Processor time, so that a busy machine does not decide; about 0.4 s alone.
    spent = (after.children_user + after.children_system) - (before.children_user + before.children_system)
    assert spent < 2.0


# ---------------------------------------------------------------------- pulling and verifying


def test_a_pull_to_a_folder_is_complete_and_repeats_nothing(
    catalog: Catalog, folder: Path, tmp_path: Path
) -> None:
    encoder = register(catalog, folder)
    target = encoder.pull(tmp_path / "here")
    assert {path.name for path in target.iterdir()} == {*encoder.manifest["files"], "manifest.json"}
    assert json.loads((target / "manifest.json").read_text()) == encoder.manifest
    untouched = (target / "model.safetensors").stat().st_ino
    (target / "config.json").write_text("spoilt")
    encoder.pull(target)
    assert (target / "model.safetensors").stat().st_ino == untouched
    assert (target / "config.json").read_bytes() == (folder / "config.json").read_bytes()


def flip_one_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json", "samples.jsonl.gz", "item.json"])
def test_one_flipped_bit_stops_the_pull_and_names_the_file(
    catalog: Catalog, folder: Path, tmp_path: Path, file: str
) -> None:
    encoder = register(catalog, folder)
    flip_one_bit(encoder.pull() / file)
    assert catalog.verify(encoder.ref) == [f"{file} is not the file that was registered"]
    for target in (None, tmp_path / "here"):
        with refused("checksum-mismatch") as caught:
            catalog.get(encoder.ref).pull(target)
        assert file in caught.value.message
    assert not (tmp_path / "here" / file).exists()


def test_a_file_that_somebody_added_does_not_stop_a_pull_and_is_told(catalog: Catalog, folder: Path) -> None:
    encoder = register(catalog, folder)
    (encoder.pull() / "notes.txt").write_text("ours")
    assert encoder.pull().is_dir()
    assert catalog.verify(encoder.ref) == ["notes.txt was not registered"]


def test_a_pull_to_where_no_folder_can_be_is_refused(catalog: Catalog, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with refused("folder-unusable"):
        register(catalog, folder).pull(tmp_path / "taken")


def test_every_pull_checks_again(catalog: Catalog, folder: Path) -> None:
    encoder = register(catalog, folder)
    stored = encoder.pull()
    (stored / "model.safetensors").write_bytes(b"other weights")
    with refused("checksum-mismatch"):
        encoder.pull()


def test_lost_changed_and_added_files_are_all_told(catalog: Catalog, folder: Path) -> None:
    encoder = register(catalog, folder)
    stored = encoder.pull()
    (stored / "config.json").unlink()
    (stored / "extra.py").write_text("print()")
    (stored / "manifest.json").write_text(json.dumps(encoder.manifest | {"method": "better"}))
    assert catalog.verify(encoder.ref) == [
        "config.json is missing",
        "manifest.json is not the file that was registered",
        "extra.py was not registered",
    ]
    with refused("file-missing"):
        encoder.pull()


def test_an_encoder_travels_to_another_installation(catalog: Catalog, folder: Path, tmp_path: Path) -> None:
    exported = register(catalog, folder).pull(tmp_path / "export")
    home = tmp_path / "elsewhere"
    there = open_catalog(Settings(home, f"sqlite:///{home / 'swath.db'}", str(home / "store")))
    arrived = there.import_folder(exported)
    assert arrived.ref == "s2-moco@1"
    assert arrived.manifest["imported"]["name"] == "s2-moco"
    assert there.lineage(arrived.ref)["samples"] == catalog.lineage("s2-moco@1")["samples"]
    assert there.import_folder(exported) == arrived
    assert there.import_folder(exported, name="renamed").ref == "renamed@1"
    flip_one_bit(exported / "model.safetensors")
    with refused("checksum-mismatch"):
        there.import_folder(exported, name="spoilt")
    with refused("invalid-manifest"):
        there.import_folder(tmp_path)


# ---------------------------------------------------------------------- lineage


def test_lineage_names_every_sample_its_pixels_and_where_they_came_from(
    catalog: Catalog, folder: Path
) -> None:
    encoder = register(catalog, folder)
    told = catalog.lineage("s2-moco")
    assert told["encoder"] == encoder.ref
    assert told["snapshots"] == {"sandbox": "SNAP1"}
    assert told["recipe"]["name"] == "sandbox"
    assert told["run"]["identity"] == "id-1"
    assert len(told["samples"]) == 4
    assert told["samples"][0] == sample("S1", "l1", 0) | {
        "href": {"B02": "https://h/S1/B02.tif", "B03": "https://h/S1/B03.tif"},
        "etag": {"B02": '"e7"', "B03": None},
        "size": {"B02": 4711, "B03": None},
        "licence": "proprietary",
    }
    json.dumps(told, allow_nan=False)


def test_lineage_that_was_tampered_with_is_not_told(catalog: Catalog, folder: Path) -> None:
    stored = register(catalog, folder).pull()
    write_samples(stored, [sample("S1", "l1", 0)])
    with refused("checksum-mismatch"):
        catalog.lineage("s2-moco")


def test_from_a_scene_one_gets_every_encoder_that_drew_from_it(
    catalog: Catalog, folder: Path, tmp_path: Path
) -> None:
    first = register(catalog, folder, "a", scenes=[("sentinel-1-rtc", "S1")])
    second = register(catalog, encoder_folder(tmp_path / "second", scenes=("S2", "S3")), "b")
    assert catalog.encoders_of_scene("S1") == [first]
    assert catalog.encoders_of_scene("S1", product="sentinel-1-rtc") == [first]
    assert catalog.encoders_of_scene("S2") == [second, first]
    assert catalog.encoders_of_scene("S3", product="sentinel-1-rtc") == []
    assert catalog.encoders_of_scene("S4") == []


def test_licences_of_all_scenes_reach_the_weights(catalog: Catalog, folder: Path) -> None:
    write_scenes(folder, [scene("S1", licence="CC-BY-4.0"), scene("S2"), scene("S3", licence="unused")])
    licences = register(catalog, folder).manifest["licences"]
    assert [(entry["licence"], entry["scenes"]) for entry in licences] == [
        ("CC-BY-4.0", 1),
        ("proprietary", 1),
    ]


def test_lineage_files_come_back_as_written_and_are_the_same_bytes_each_time(tmp_path: Path) -> None:
    rows = [sample("S1", f"l{i}", i) for i in range(3)]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        assert write_samples(tmp_path / name, (row | {"ignored": 1} for row in rows)) == 3
        time.sleep(0.01)
        write_scenes(tmp_path / name, [scene("S1"), scene("S1", product="sentinel-2-l1c")])
    assert list(read_samples(tmp_path / "one")) == rows
    for file in ("samples.jsonl.gz", "scenes.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    entries = read_scenes(tmp_path / "one")
    assert entries["sentinel-2-l1c"]["S1"]["assets"]["B02"]["checksum"] == "1220ab"


# ---------------------------------------------------------------------- several processes, and killed ones

REGISTER = """
import sys
from pathlib import Path
from tests.catalog.encoder_folders import manifest, mlm_item
from catalog.encoders import open_catalog
{before}
encoder = open_catalog().register(
    Path(sys.argv[1]), manifest(sys.argv[2]), name="s2-moco", metrics={{}}, mlm_item=mlm_item()
)
print(encoder.version)
"""


def registering(folder: Path, identity: str, before: str = "") -> subprocess.Popen[str]:
    code = REGISTER.format(before=before)
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder), identity], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )


def test_processes_that_register_one_name_together_get_versions_of_their_own(
    catalog: Catalog, folder: Path
) -> None:
    started = [registering(folder, f"id-{i}") for i in range(3)]
    assert sorted(int(process.communicate()[0]) for process in started) == [1, 2, 3]
    assert all(catalog.verify(f"s2-moco@{version}") == [] for version in (1, 2, 3))


def test_processes_that_register_the_same_run_together_make_one_encoder(
    catalog: Catalog, folder: Path
) -> None:
    started = [registering(folder, "same") for _ in range(3)]
    assert [int(process.communicate()[0]) for process in started] == [1, 1, 1]
    assert len(catalog.search()) == 1


KILLS = {
    "while files are copied": "import catalog.weights as w; w._sync_folder = die",
    "before the folder has its place": "Path.rename = die",
    "before the row is written": "import catalog.encoders as e; e._insert = die",
    "before the row is committed": """
import catalog.encoders as e
real = e._insert
def insert_and_die(*arguments):
    real(*arguments)
    die()
e._insert = insert_and_die""",
}


@pytest.mark.parametrize("moment", KILLS)
def test_a_killed_registration_leaves_nothing_that_anybody_sees_and_the_next_one_sweeps_up(
    catalog: Catalog, folder: Path, settings: Settings, moment: str
) -> None:
    die = "import os, signal\ndef die(*_, **__):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    process = registering(folder, "id-1", die + KILLS[moment])
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert catalog.search() == []
    left = list((settings.store_path / "encoders").rglob("model.safetensors"))
    assert left, "the kill came too early to leave anything"
    encoder = register(catalog, folder, "id-1")
    assert encoder.version == 1
    assert catalog.verify(encoder.ref) == []
    kept = list((settings.store_path / "encoders").rglob("model.safetensors"))
    assert kept == [encoder.pull() / "model.safetensors"]


def test_a_registration_under_way_is_not_swept_up_by_another(catalog: Catalog, folder: Path) -> None:
    from catalog.weights import open_store

    with open_store(catalog.settings).stage(folder, "s2-moco") as staged:
        assert register(catalog, folder).version == 1
        assert (Path(staged.place) / "model.safetensors").is_file()
    assert not Path(staged.place).exists()


def test_a_registration_that_fails_leaves_no_files(
    catalog: Catalog, folder: Path, settings: Settings
) -> None:
    with pytest.raises(TypeError):
        register(catalog, folder, scenes=[(PRODUCT, "S1"), (3, 4)])
    assert catalog.search() == []
    assert register(catalog, folder).version == 1
    assert len(list((settings.store_path / "encoders").rglob("model.safetensors"))) == 1


# ---------------------------------------------------------------------- an object store


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="swath")
    yield "s3://swath/store"
    server.stop()


def test_an_object_store_keeps_encoders_as_a_folder_does(bucket: str, folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    settings = Settings(home, f"sqlite:///{home / 'swath.db'}", bucket)
    catalog = open_catalog(settings)
    with pytest.raises(TypeError):
        register(catalog, folder, scenes=[(PRODUCT, "S1"), (3, 4)])
    encoder = register(catalog, folder)
    assert encoder.version == 1
    assert catalog.verify(encoder.ref) == []
    pulled = encoder.pull()
    assert pulled.is_relative_to(home)
    assert (pulled / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert len(catalog.lineage(encoder.ref)["samples"]) == 4
    import boto3

    boto3.client("s3").put_object(Bucket="swath", Key=f"store/{encoder.place}/config.json", Body=b"{}")
    assert encoder.pull() == pulled, "what was pulled before is still sound"
    (pulled / "config.json").unlink()
    with refused("checksum-mismatch"):
        encoder.pull()
    assert catalog.verify(encoder.ref) == ["config.json is not the file that was registered"]


def test_an_encoder_can_be_sent_to_another_process(catalog: Catalog, folder: Path) -> None:
    import pickle

    encoder = register(catalog, folder)
    assert pickle.loads(pickle.dumps(encoder)) == encoder  # noqa: S301 - our own bytes
    assert dataclasses.replace(encoder, aliases=("x",)).pull() == encoder.pull()
    assert CONFIG["products"] == list(encoder.products)
