"""Opening the database: migrated once, by whoever comes first, and honest about what is wrong."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, insert, inspect, select, text
from sqlalchemy.exc import OperationalError, ProgrammingError

from catalog import tables
from catalog.database import HEAD, open_database, write
from catalog.errors import LedgerError
from catalog.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


def migrations(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "catalog" / "migrations"))
    config.attributes["connection"] = connection
    return config


def test_head_names_the_newest_step() -> None:
    assert ScriptDirectory.from_config(migrations()).get_heads() == [HEAD]


def test_the_steps_build_exactly_the_tables(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_server_default": True})
        assert compare_metadata(context, tables.metadata) == []


def test_going_down_leaves_nothing_and_up_again_everything(empty_settings: Settings) -> None:
    engine = open_database(empty_settings)
    with write(engine) as connection:
        command.downgrade(migrations(connection), "base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
    with write(engine) as connection:
        command.upgrade(migrations(connection), "head")
    assert set(inspect(engine).get_table_names()) == {"alembic_version", *tables.metadata.tables}


def test_keys_of_scenes_that_are_known_are_shortened_to_the_hour_where_a_pass_sees_a_tile_once(
    empty_settings: Settings,
) -> None:
    opened = open_database(empty_settings)
    keys = {
        "s2": "p|sentinel-2a|32TMT|20200705T101559",
        "landsat": "p|landsat-8|193026|20200705T101559",
        "site": "p|landsat-8|00002806639B424A|20200705T101559",
        "radar": "p|sentinel-1a|R117-03|20200705T101559",
    }
    now = datetime.now(UTC)
    with write(opened) as connection:
        command.downgrade(migrations(connection), "0001")
        for scene, key in keys.items():
            connection.execute(
                text(
                    "INSERT INTO scenes (cube, product, scene_id, version, key, state, own_state, reasons, "
                    "sensed, seen_at, changed_at) VALUES ('c', 'p', :scene, '', :key, 'seen', 'seen', '[]', "
                    ":now, :now, :now)"
                ),
                {"scene": scene, "key": key, "now": now},
            )
        command.upgrade(migrations(connection), "head")
        found = dict(connection.execute(text("SELECT scene_id, key FROM scenes")).tuples().all())
    shortened = {"s2": "p|sentinel-2a|32TMT|20200705T10", "landsat": "p|landsat-8|193026|20200705T10"}
    assert found == keys | shortened


def test_a_step_that_fails_leaves_the_database_as_it_was(empty_settings: Settings) -> None:
    opened = open_database(empty_settings)
    with write(opened) as connection:
        command.downgrade(migrations(connection), "base")
        connection.execute(text("CREATE TABLE runs (in_the_way INTEGER)"))
    with pytest.raises((OperationalError, ProgrammingError), match="runs"):
        open_database(empty_settings)
    assert set(inspect(opened).get_table_names()) == {"alembic_version", "runs"}


def test_processes_that_start_together_migrate_once(empty_settings: Settings) -> None:
    code = "from catalog.database import open_database as o; o().connect().close()"
    started = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    assert [process.communicate()[1] for process in started] == [""] * 4
    with open_database(empty_settings).connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [HEAD]


def test_opening_a_migrated_database_imports_no_alembic(engine: Engine) -> None:
    code = "import sys, catalog.database as d; d.open_database(); print('alembic' in sys.modules)"
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "False"


def test_a_database_of_a_newer_swath_is_refused(empty_settings: Settings) -> None:
    with write(open_database(empty_settings)) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LedgerError, match="9999") as caught:
        open_database(empty_settings)
    assert caught.value.code == "database-newer"
    assert "upgrade Swath" in caught.value.next_step


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://user:secret@127.0.0.1:1/nothing",
        "sqlite:////dev/null/swath.db",
        "mysql://user:secret@x/y",
        "nonsense",
    ],
)
def test_an_unreachable_database_is_named_without_its_password(url: str, tmp_path: Path) -> None:
    with pytest.raises(LedgerError) as caught:
        open_database(Settings(home=tmp_path, database_url=url, store=str(tmp_path / "store")))
    assert caught.value.code == "database-unreachable"
    assert caught.value.next_step
    assert "secret" not in str(caught.value)


def test_moments_come_back_as_the_same_moment_in_utc(engine: Engine) -> None:
    here = datetime(2024, 5, 30, 19, 49, 9, 123456, tzinfo=timezone(timedelta(hours=2)))
    with write(engine) as connection:
        connection.execute(insert(tables.runs), _run(started=here))
        back = connection.execute(select(tables.runs.c.started)).scalar_one()
    assert back == here
    assert back.tzinfo is UTC


def test_a_moment_without_time_zone_is_refused(engine: Engine) -> None:
    with pytest.raises(Exception, match="no time zone"), write(engine) as connection:
        connection.execute(insert(tables.runs), _run(started=datetime(2024, 5, 30)))


def test_a_transaction_that_raises_leaves_nothing(engine: Engine) -> None:
    with pytest.raises(KeyError), write(engine) as connection:
        connection.execute(insert(tables.runs), _run())
        raise KeyError
    with engine.connect() as connection:
        assert connection.execute(select(tables.runs)).all() == []


def test_a_second_writer_waits_and_a_reader_does_not(engine: Engine) -> None:
    holding, done = threading.Event(), threading.Event()
    order: list[str] = []

    def hold() -> None:
        with write(engine, lock="one") as connection:
            connection.execute(insert(tables.runs), _run("first"))
            holding.set()
            done.wait(10)
            order.append("first")

    def follow() -> None:
        with write(engine, lock="one") as connection:
            order.append("second")
            connection.execute(insert(tables.runs), _run("second"))

    first, second = threading.Thread(target=hold), threading.Thread(target=follow)
    first.start()
    assert holding.wait(10)
    second.start()
    with engine.connect() as connection:
        assert connection.execute(select(tables.runs)).all() == []
    second.join(0.3)
    assert second.is_alive()
    done.set()
    first.join(10)
    second.join(10)
    assert order == ["first", "second"]


def _run(run_id: str = "r", started: datetime | None = None) -> tables.Row:
    return {
        "run_id": run_id,
        "kind": "refresh",
        "flow": "refresh",
        "recipe": "sandbox",
        "status": "running",
        "manifest": {},
        "started": started or datetime.now(UTC),
    }
