"""What lets a refresh cost as much as there is new: item digests, plans, searches, notes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add what a refresh remembers of the one before."""
    op.add_column("scenes", sa.Column("item_digest", sa.String(), nullable=True))
    op.add_column("scenes", sa.Column("plan", sa.String(), nullable=True))
    op.add_column("scenes", sa.Column("passed_over", sa.String(), nullable=True))
    # Keys of scenes whose tile is seen once per pass count to the hour from now on.
    for platform in ("sentinel-2", "landsat-"):
        shorten = "UPDATE scenes SET key = substr(key, 1, length(key) - 4) WHERE key LIKE :pattern"
        op.execute(sa.text(shorten).bindparams(pattern=f"%|{platform}%"))
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


def downgrade() -> None:
    """Forget it; the next refresh looks at everything again."""
    op.drop_table("notes")
    op.drop_table("searches")
    op.drop_column("scenes", "passed_over")
    op.drop_column("scenes", "plan")
    op.drop_column("scenes", "item_digest")
