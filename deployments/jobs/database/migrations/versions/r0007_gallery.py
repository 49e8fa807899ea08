"""Favourites, tags, lineage and full-text search of images, and who holds how many bytes of them."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from deployments.jobs.database.search import indexed_words

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

IS_FAVOURITE = sa.text("favourite")
INDEXES = {
    "ix_images_model": ["model_id", "number"],
    "ix_images_client": ["client", "number"],
    "ix_images_size": ["width", "height", "number"],
    "ix_images_created_at": ["created_at", "number"],
}
ROLES = ("image", "mask", "control_image")
ROWS_AT_ONCE = 1000

# The words hold nothing but letters, digits and spaces: "ascii" leaves all characters beyond ASCII as they are.
SQLITE_SEARCH = (
    "CREATE VIRTUAL TABLE image_words USING fts5(words, content='images', content_rowid='number', tokenize='ascii',"
    " detail='none', columnsize=0, prefix='1 2 3')",
    "CREATE TRIGGER image_words_added AFTER INSERT ON images BEGIN"
    " INSERT INTO image_words (rowid, words) VALUES (new.number, new.words); END",
    "CREATE TRIGGER image_words_removed AFTER DELETE ON images BEGIN"
    " INSERT INTO image_words (image_words, rowid, words) VALUES ('delete', old.number, old.words); END",
    "CREATE TRIGGER image_words_changed AFTER UPDATE OF number, words ON images BEGIN"
    " INSERT INTO image_words (image_words, rowid, words) VALUES ('delete', old.number, old.words);"
    " INSERT INTO image_words (rowid, words) VALUES (new.number, new.words); END",
    "INSERT INTO image_words (image_words) VALUES ('rebuild')",
)
# A table of its own: a search that looks at many rows finds them in few pages.
POSTGRESQL_SEARCH = (
    "CREATE TABLE image_words (number integer PRIMARY KEY REFERENCES images (number) ON DELETE CASCADE,"
    " words tsvector NOT NULL)",
    "INSERT INTO image_words SELECT number, array_to_tsvector(string_to_array(words, ' ')) FROM images",
    # A list of words that are not yet sorted in would be read by each search.
    "CREATE INDEX ix_image_words ON image_words USING gin (words) WITH (fastupdate = off)",
    "CREATE FUNCTION index_image_words() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " INSERT INTO image_words VALUES (new.number, array_to_tsvector(string_to_array(new.words, ' ')))"
    " ON CONFLICT (number) DO UPDATE SET words = excluded.words; RETURN NULL; END $$",
    "CREATE TRIGGER image_words_changed AFTER INSERT OR UPDATE OF words ON images"
    " FOR EACH ROW EXECUTE FUNCTION index_image_words()",
)

_images = sa.table("images", *(sa.column(name) for name in ("number", "job_id", "width", "height", "words")))
_jobs = sa.table("jobs", *(sa.column(name) for name in ("id", "prompt", "model_id")), sa.column("settings", sa.JSON))
_sources = sa.table("sources", *(sa.column(name) for name in ("job_id", "role", "picture_id")))


def upgrade() -> None:
    """Give the images what they are found by, and count them."""
    for column in _new_columns():
        op.add_column("images", column)
    op.execute(
        "UPDATE images SET model_id = jobs.model_id, client = jobs.client FROM jobs WHERE jobs.id = images.job_id"
    )
    sides = {side: _jobs.c.settings[side].as_integer() for side in ("width", "height")}
    op.execute(sa.update(_images).values(sides).where(_jobs.c.id == _images.c.job_id))
    _fill_words()
    for name, columns in INDEXES.items():
        op.create_index(name, "images", columns)
    op.create_index(
        "ix_images_favourite", "images", ["number"], sqlite_where=IS_FAVOURITE, postgresql_where=IS_FAVOURITE
    )
    for statement in POSTGRESQL_SEARCH if _is_postgresql() else SQLITE_SEARCH:
        op.execute(statement)
    _create_tables()
    for role in ROLES:
        picture = _jobs.c.settings[role].as_string()
        found = sa.select(_jobs.c.id, sa.literal_column(f"'{role}'"), picture).where(picture.is_not(None))
        op.execute(sa.insert(_sources).from_select(["job_id", "role", "picture_id"], found))
    op.execute(
        "INSERT INTO holdings (client, model_id, shard, images, bytes)"
        " SELECT client, model_id, 0, count(*), sum(byte_count) FROM images GROUP BY client, model_id"
    )


def downgrade() -> None:
    """Take it all back; favourites and tags are lost."""
    for table in ("chores", "holdings", "sources", "image_tags"):
        op.drop_table(table)
    if _is_postgresql():
        op.execute("DROP TRIGGER image_words_changed ON images")
        op.execute("DROP FUNCTION index_image_words")
    else:
        for trigger in ("added", "removed", "changed"):
            op.execute(f"DROP TRIGGER image_words_{trigger}")
    op.execute("DROP TABLE image_words")
    for name in (*INDEXES, "ix_images_favourite"):
        op.drop_index(name, "images")
    for column in _new_columns():
        op.drop_column("images", column.name)


def _new_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("model_id", sa.String(255), nullable=False, server_default=""),
        sa.Column("client", sa.String(255), nullable=False, server_default=""),
        sa.Column("width", sa.Integer, nullable=False, server_default="0"),
        sa.Column("height", sa.Integer, nullable=False, server_default="0"),
        sa.Column("favourite", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column(
            "words",
            sa.Text,
            nullable=False,
            server_default="",
            comment="Of the prompt and the model id, for searches.",
        ),
    ]


def _fill_words() -> None:
    connection = op.get_bind()
    wanted = sa.select(_images.c.number, _jobs.c.prompt, _jobs.c.model_id).join(_jobs, _jobs.c.id == _images.c.job_id)
    behind = 0
    while True:
        page = wanted.where(_images.c.number > behind).order_by(_images.c.number).limit(ROWS_AT_ONCE)
        found = connection.execute(page).all()
        if not found:
            return
        behind = found[-1].number
        connection.execute(
            sa.update(_images).where(_images.c.number == sa.bindparam("of")).values(words=sa.bindparam("found")),
            [{"of": row.number, "found": indexed_words(row.prompt, row.model_id)} for row in found],
        )


def _create_tables() -> None:
    op.create_table(
        "image_tags",
        sa.Column("tag", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("tag", "number", name="pk_image_tags"),
        sa.ForeignKeyConstraint(["number"], ["images.number"], name="fk_image_tags_number", ondelete="CASCADE"),
    )
    op.create_index("ix_image_tags_number", "image_tags", ["number"])
    op.create_table(
        "sources",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("role", sa.String(32), nullable=False, comment="The setting that names the picture."),
        sa.Column("picture_id", sa.String(64), nullable=False, comment="An input, or an image; it may be gone."),
        sa.PrimaryKeyConstraint("job_id", "role", name="pk_sources"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_sources_job_id", ondelete="CASCADE"),
    )
    op.create_index("ix_sources_picture", "sources", ["picture_id"])
    op.create_table(
        "holdings",
        sa.Column("client", sa.String(255), nullable=False),
        sa.Column("model_id", sa.String(255), nullable=False),
        sa.Column("shard", sa.Integer, nullable=False, comment="So that few writers meet at one row."),
        sa.Column("images", sa.Integer, nullable=False, comment="That there are: the sum over the shards."),
        sa.Column("bytes", sa.BigInteger, nullable=False, comment="Of their files: the sum over the shards."),
        sa.PrimaryKeyConstraint("client", "model_id", "shard", name="pk_holdings"),
    )
    op.create_table(
        "chores",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("begun_at", sa.DateTime(timezone=True), nullable=False, comment="By whichever process came first."),
        sa.PrimaryKeyConstraint("name", name="pk_chores"),
    )


def _is_postgresql() -> bool:
    return op.get_bind().dialect.name == "postgresql"
