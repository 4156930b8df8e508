"""What lets a refresh cost as much as there is new: item digests, plans, searches, notes."""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

ONCE_PER_PASS = re.compile(
    r"[^|]+\|(sentinel-2|landsat-)[^|]*\|([0-9]{1,2}[C-X][A-Z]{2}|[0-9]{6})\|\d{8}T\d{6}"
)

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what a refresh remembers of the one before."""
    op.add_column("scenes", sa.Column("item_digest", sa.String(), nullable=True))
    op.add_column("scenes", sa.Column("plan", sa.String(), nullable=True))
    op.add_column("scenes", sa.Column("passed_over", sa.String(), nullable=True))
    _keys_to_the_hour()
    op.create_table(
        "searches",
        sa.Column("cube", sa.String(), nullable=False),
        sa.Column("product", sa.String(), nullable=False),
        sa.Column("request", sa.String(), nullable=False),
        sa.Column("searched_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("whole_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("until", sa.Date(), nullable=False),
        sa.PrimaryKeyConstraint("cube", "product", name="pk_searches"),
    )
    op.create_table(
        "notes",
        sa.Column("cube", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("cube", "name", name="pk_notes"),
    )


def _keys_to_the_hour() -> None:
    """Scenes of a tile grid that a pass sees once are one observation within the hour from now on."""
    scenes = sa.table("scenes", *(sa.column(name) for name in ("cube", "product", "scene_id", "key")))
    primary = [scenes.c[name] == sa.bindparam(f"p_{name}") for name in ("cube", "product", "scene_id")]
    connection = op.get_bind()
    found = connection.execute(sa.select(scenes)).all()
    changed = [
        {"p_cube": cube, "p_product": product, "p_scene_id": scene_id, "key": key[:-4]}
        for cube, product, scene_id, key in found
        if ONCE_PER_PASS.fullmatch(key)
    ]
    if changed:
        connection.execute(sa.update(scenes).where(*primary), changed)


def downgrade() -> None:
    """Forget it; the next refresh looks at everything again."""
    op.drop_table("notes")
    op.drop_table("searches")
    op.drop_column("scenes", "passed_over")
    op.drop_column("scenes", "plan")
    op.drop_column("scenes", "item_digest")
