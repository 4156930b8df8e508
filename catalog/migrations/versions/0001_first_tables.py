"""Scenes, locations, failures, runs, encoders."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0001"
down_revision = None

document = sa.JSON().with_variant(JSONB(), "postgresql")


def upgrade() -> None:
    """Make every table of the first version."""
    op.create_table(
        "encoders",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("identity", sa.String(), nullable=True),
        sa.Column("folder", sa.String(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("manifest", document, nullable=False),
        sa.CheckConstraint("version > 0", name="ck_encoders_version"),
        sa.PrimaryKeyConstraint("name", "version", name="pk_encoders"),
    )
    op.create_index("ix_encoders_created", "encoders", ["created"])
    op.create_index("uq_encoders_name_identity", "encoders", ["name", "identity"], unique=True)
    op.create_table(
        "failures",
        sa.Column("cube", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("scene_id", sa.String(), nullable=False),
        sa.Column("band", sa.String(), nullable=False),
        sa.Column("href", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("failed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("cube", "product", "scene_id", "band", name="pk_failures"),
    )
    op.create_table(
        "locations",
        sa.Column("cube", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("epsg", sa.Integer(), nullable=False),
        sa.Column("x", sa.Float(53), nullable=False),
        sa.Column("y", sa.Float(53), nullable=False),
        sa.Column("size_m", sa.Float(53), nullable=False),
        sa.Column("longitude", sa.Float(53), nullable=False),
        sa.Column("latitude", sa.Float(53), nullable=False),
        sa.Column("split", sa.String(), nullable=False),
        sa.Column("block", sa.String(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.CheckConstraint("split IN ('pretrain', 'probe', 'test')", name="ck_locations_split"),
        sa.PrimaryKeyConstraint("cube", "id", name="pk_locations"),
    )
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("flow", sa.String(), nullable=False),
        sa.Column("recipe", sa.String(), nullable=False),
        sa.Column("identity", sa.String(), nullable=True),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("manifest", document, nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('running', 'finished', 'failed', 'duplicate')", name="ck_runs_status"),
        sa.PrimaryKeyConstraint("run_id", name="pk_runs"),
    )
    op.create_index("ix_runs_kind_identity", "runs", ["kind", "identity"])
    op.create_index("ix_runs_started", "runs", ["started"])
    op.create_index(
        "uq_runs_finished",
        "runs",
        ["kind", "identity"],
        unique=True,
        sqlite_where=sa.text("status = 'finished'"),
        postgresql_where=sa.text("status = 'finished'"),
    )
    op.create_table(
        "scenes",
        sa.Column("cube", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("scene_id", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("own_state", sa.String(), nullable=False),
        sa.Column("superseded_by", sa.String(), nullable=True),
        sa.Column("snapshot", sa.String(), nullable=True),
        sa.Column("reasons", document, nullable=False),
        sa.Column("sensed", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint(
            "own_state <> 'cubed' OR snapshot IS NOT NULL", name="ck_scenes_cubed_has_snapshot"
        ),
        sa.CheckConstraint(
            "own_state IN ('seen', 'accepted', 'quarantined', 'cubed')", name="ck_scenes_own_state"
        ),
        sa.CheckConstraint(
            "state <> 'superseded' OR superseded_by IS NOT NULL", name="ck_scenes_superseded_by_one"
        ),
        sa.CheckConstraint(
            "state IN ('seen', 'accepted', 'quarantined', 'cubed', 'superseded')", name="ck_scenes_state"
        ),
        sa.PrimaryKeyConstraint("cube", "product", "scene_id", name="pk_scenes"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_scenes_key_cube", "scenes", ["key", "cube"])
    op.create_index("ix_scenes_state_cube_product", "scenes", ["state", "cube", "product"])
    op.create_index("ix_scenes_scene_id", "scenes", ["scene_id"])
    op.create_table(
        "encoder_aliases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("alias", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["encoders.name", "encoders.version"],
            name="fk_encoder_aliases_encoders",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("name", "alias", name="pk_encoder_aliases"),
    )
    op.create_table(
        "encoder_products",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["encoders.name", "encoders.version"],
            name="fk_encoder_products_encoders",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("name", "version", "product", name="pk_encoder_products"),
    )
    op.create_index("ix_encoder_products_product", "encoder_products", ["product"])
    op.create_table(
        "encoder_scenes",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("scene_id", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["encoders.name", "encoders.version"],
            name="fk_encoder_scenes_encoders",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("name", "version", "product", "scene_id", name="pk_encoder_scenes"),
    )
    op.create_index("ix_encoder_scenes_scene_id", "encoder_scenes", ["scene_id"])
    op.create_table(
        "scene_documents",
        sa.Column("cube", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("scene_id", sa.String(), nullable=False),
        sa.Column("document", document, nullable=False),
        sa.ForeignKeyConstraint(
            ["cube", "product", "scene_id"],
            ["scenes.cube", "scenes.product", "scenes.scene_id"],
            name="fk_scene_documents_scenes",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("cube", "product", "scene_id", name="pk_scene_documents"),
    )


def downgrade() -> None:
    """Leave nothing."""
    op.drop_table("scene_documents")
    op.drop_table("encoder_scenes")
    op.drop_table("encoder_products")
    op.drop_table("encoder_aliases")
    op.drop_table("scenes")
    op.drop_table("runs")
    op.drop_table("locations")
    op.drop_table("failures")
    op.drop_table("encoders")
