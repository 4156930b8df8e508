"""The tables of the one database: scenes and their states, searches, locations, failures, runs, encoders.

Types are chosen so that SQLite and PostgreSQL behave alike: moments are UTC and come back aware, documents
are JSON (JSONB on PostgreSQL). The migrations in ``catalog/migrations`` build exactly these tables.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Column,
    Date,
    DateTime,
    Dialect,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeDecorator


class UtcDateTime(TypeDecorator[datetime]):
    """A moment: aware in Python, UTC in the database (SQLite keeps no time zone)."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


Document = JSON().with_variant(JSONB(), "postgresql")

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

_STATES = "('seen', 'accepted', 'quarantined', 'cubed', 'superseded')"
_OWN_STATES = "('seen', 'accepted', 'quarantined', 'cubed')"

scenes = Table(
    "scenes",
    metadata,
    Column("cube", String, primary_key=True),
    Column("product", String, primary_key=True),
    Column("scene_id", String, primary_key=True),
    Column(
        "version", String, nullable=False
    ),  # orders versions of one key as text; see catalog.ledger.supersession
    Column("key", String, nullable=False),
    Column("state", String, nullable=False),  # what holds: `superseded` hides what the scene reached itself
    Column("own_state", String, nullable=False),  # what the scene reached itself
    Column("superseded_by", String),  # also set on a cubed scene whose better version is not cubed yet
    Column("snapshot", String),  # the first that holds it, or the last of a refresh that commits in portions
    Column("reasons", Document, nullable=False),  # why it was quarantined, one line each
    Column("sensed", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("item_digest", String),  # of the item it was made from: the same item is not looked at twice
    Column("plan", String),  # locations and dates for which all was taken from it; see tasks.cube.scenes
    Column("passed_over", String),  # why nothing was
    CheckConstraint(f"state IN {_STATES}", name="state"),
    CheckConstraint(f"own_state IN {_OWN_STATES}", name="own_state"),
    CheckConstraint("own_state <> 'cubed' OR snapshot IS NOT NULL", name="cubed_has_snapshot"),
    CheckConstraint("state <> 'superseded' OR superseded_by IS NOT NULL", name="superseded_by_one"),
    # No second index starts with `cube`: before its first ANALYZE, PostgreSQL would take it for a look-up by
    # primary key and read every scene of the cube (measured: 4,000 updates took 4 s instead of 0.2 s).
    Index(None, "state", "cube", "product"),
    Index(None, "key", "cube"),
    Index(None, "scene_id"),
    # Documents lie in a table of their own: this one stays small, and a look-up of known scenes stays in it.
    sqlite_with_rowid=False,
)

scene_documents = Table(
    "scene_documents",
    metadata,
    Column("cube", String, primary_key=True),
    Column("product", String, primary_key=True),
    Column("scene_id", String, primary_key=True),
    Column("document", Document, nullable=False),  # Scene.to_dict()
    ForeignKeyConstraint(
        ["cube", "product", "scene_id"],
        ["scenes.cube", "scenes.product", "scenes.scene_id"],
        ondelete="CASCADE",
    ),
)

failures = Table(
    "failures",
    metadata,
    Column("cube", String, primary_key=True),
    Column("product", String, primary_key=True),
    Column("scene_id", String, primary_key=True),
    Column("band", String, primary_key=True),
    Column("href", Text, nullable=False),  # unsigned
    Column("status", Integer),  # HTTP status where there was one
    Column("attempts", Integer, nullable=False),
    Column("message", Text, nullable=False),
    Column("failed_at", UtcDateTime, nullable=False),
)

searches = Table(
    "searches",
    metadata,
    Column("cube", String, primary_key=True),
    Column("product", String, primary_key=True),
    Column("request", String, nullable=False),  # digest of archive, area and filters; another one starts anew
    Column("searched_at", UtcDateTime, nullable=False),
    Column("whole_at", UtcDateTime, nullable=False),  # when the whole period was last searched
    Column("until", Date, nullable=False),  # last sensing date that was asked for
)

notes = Table(
    "notes",
    metadata,
    Column("cube", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("value", String, nullable=False),
)

locations = Table(
    "locations",
    metadata,
    Column("cube", String, primary_key=True),
    Column("id", String, primary_key=True),
    Column("epsg", Integer, nullable=False),
    Column("x", Float(53), nullable=False),  # metres
    Column("y", Float(53), nullable=False),  # metres
    Column("size_m", Float(53), nullable=False),
    Column("longitude", Float(53), nullable=False),  # degrees
    Column("latitude", Float(53), nullable=False),  # degrees
    Column("split", String, nullable=False),
    Column("block", String, nullable=False),
    Column("position", Integer, nullable=False),  # order of arrival in the cube
    CheckConstraint("split IN ('pretrain', 'probe', 'test')", name="split"),
)

runs = Table(
    "runs",
    metadata,
    Column("run_id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("flow", String, nullable=False),
    Column("recipe", String, nullable=False),
    Column("identity", String),
    Column("status", String, nullable=False),
    Column("manifest", Document, nullable=False),
    Column("started", UtcDateTime, nullable=False),
    Column("ended", UtcDateTime),
    CheckConstraint("status IN ('running', 'finished', 'failed', 'duplicate')", name="status"),
    Index(None, "kind", "identity"),
    Index(None, "started"),
)
Index(
    "uq_runs_finished",
    runs.c.kind,
    runs.c.identity,
    unique=True,
    sqlite_where=text("status = 'finished'"),
    postgresql_where=text("status = 'finished'"),
)

encoders = Table(
    "encoders",
    metadata,
    Column("name", String, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("created", UtcDateTime, nullable=False),
    Column("method", String, nullable=False),
    Column("run_id", String),
    Column("identity", String),
    Column("folder", String, nullable=False),  # below the store
    Column("words", Text, nullable=False),  # what a search by text looks at, lower case
    Column("manifest", Document, nullable=False),
    CheckConstraint("version > 0", name="version"),
    Index("uq_encoders_name_identity", "name", "identity", unique=True),
    Index(None, "created"),
)

encoder_products = Table(
    "encoder_products",
    metadata,
    Column("name", String, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("product", String, primary_key=True),
    ForeignKeyConstraint(["name", "version"], ["encoders.name", "encoders.version"], ondelete="CASCADE"),
    Index(None, "product"),
)

encoder_aliases = Table(
    "encoder_aliases",
    metadata,
    Column("name", String, primary_key=True),
    Column("alias", String, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("changed_at", UtcDateTime, nullable=False),
    ForeignKeyConstraint(["name", "version"], ["encoders.name", "encoders.version"], ondelete="CASCADE"),
)

encoder_scenes = Table(
    "encoder_scenes",
    metadata,
    Column("name", String, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("product", String, primary_key=True),
    Column("scene_id", String, primary_key=True),
    ForeignKeyConstraint(["name", "version"], ["encoders.name", "encoders.version"], ondelete="CASCADE"),
    Index(None, "scene_id"),
)

Row = dict[str, Any]
"""Column name → value."""
