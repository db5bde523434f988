"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create all tables."""
    op.create_table(
        "about",
        sa.Column("inventory_id", sa.LargeBinary(), nullable=False),
        sa.Column("signer_public", sa.LargeBinary(), nullable=False),
        sa.Column("predecessor", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("inventory_id", name=op.f("pk_about")),
    )
    op.create_table(
        "counters",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("next", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_counters")),
    )
    op.create_table(
        "owners",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("uid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("gid", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.Column("group", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_owners")),
        sa.UniqueConstraint("uid", "gid", "user", "group", name=op.f("uq_owners_uid")),
    )
    op.create_table(
        "vaults",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_vaults")),
        sa.UniqueConstraint("name", name=op.f("uq_vaults_name")),
    )
    op.create_table(
        "domains",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("vault", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("recipients", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["vault"], ["vaults.number"], name=op.f("fk_domains_vault")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_domains")),
        sa.UniqueConstraint("id", name=op.f("uq_domains_id")),
    )
    op.create_table(
        "jobs",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("vault", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("next_snapshot", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("next_catalog", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["vault"], ["vaults.number"], name=op.f("fk_jobs_vault")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_jobs")),
        sa.UniqueConstraint("id", name=op.f("uq_jobs_id")),
        sa.UniqueConstraint("name", name=op.f("uq_jobs_name")),
    )
    op.create_table(
        "listings",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("vault", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("listing_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("as_of", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(["vault"], ["vaults.number"], name=op.f("fk_listings_vault")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_listings")),
        sa.UniqueConstraint("token", name=op.f("uq_listings_token")),
    )
    op.create_table(
        "directories",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name=op.f("fk_directories_job")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_directories")),
        sa.UniqueConstraint("job", "path", name=op.f("uq_directories_job")),
    )
    op.create_table(
        "listed_archives",
        sa.Column("listing", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("archive_id", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tree_hash", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["listing"], ["listings.number"], name=op.f("fk_listed_archives_listing")),
        sa.PrimaryKeyConstraint("listing", "archive_id", name=op.f("pk_listed_archives")),
    )
    op.create_table(
        "runs",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("job", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("started_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("finished_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("snapshot_number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("prepared", sa.LargeBinary(), nullable=True),
        sa.Column("report", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name=op.f("fk_runs_job")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_runs")),
    )
    op.create_table(
        "archives",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("domain", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("pack_id", sa.LargeBinary(), nullable=False),
        sa.Column("header", sa.LargeBinary(), nullable=False),
        sa.Column("size", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tree_hash", sa.LargeBinary(), nullable=False),
        sa.Column("archive_id", sa.Text(), nullable=True),
        sa.Column("submitted_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("stored_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(["domain"], ["domains.number"], name=op.f("fk_archives_domain")),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_archives_run")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_archives")),
        sa.UniqueConstraint("pack_id", name=op.f("uq_archives_pack_id")),
    )
    op.create_index("ix_archives_run", "archives", ["run"], unique=False)
    op.create_table(
        "entries",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("directory", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("mode", sa.Integer(), nullable=False),
        sa.Column("owner", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("size", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("extra", sa.LargeBinary(), nullable=True),
        sa.Column("content_id", sa.LargeBinary(), nullable=True),
        sa.Column("chunks", sa.LargeBinary(), nullable=True),
        sa.Column("added_in", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("removed_in", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(["directory"], ["directories.number"], name=op.f("fk_entries_directory")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_entries")),
        sa.UniqueConstraint("directory", "name", "added_in", name=op.f("uq_entries_directory")),
    )
    op.create_table(
        "snapshots",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("job", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("started_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("finished_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("sources", sa.LargeBinary(), nullable=False),
        sa.Column("problems", sa.LargeBinary(), nullable=False),
        sa.Column("files", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("bytes", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name=op.f("fk_snapshots_job")),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_snapshots_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_snapshots")),
        sa.UniqueConstraint("job", "number", name=op.f("uq_snapshots_job")),
    )
    op.create_table(
        "staged_entries",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("directory", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.LargeBinary(), nullable=False),
        sa.Column("kind", sa.Integer(), nullable=False),
        sa.Column("mode", sa.Integer(), nullable=False),
        sa.Column("owner", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("size", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("extra", sa.LargeBinary(), nullable=True),
        sa.Column("content_id", sa.LargeBinary(), nullable=True),
        sa.Column("chunks", sa.LargeBinary(), nullable=True),
        sa.Column("inode", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("ctime_ns", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("is_mount", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["directory"], ["directories.number"], name=op.f("fk_staged_entries_directory")
        ),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_staged_entries_run")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_staged_entries")),
    )
    op.create_table(
        "catalogs",
        sa.Column("archive", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("job", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("parent", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["archive"], ["archives.number"], name=op.f("fk_catalogs_archive")),
        sa.ForeignKeyConstraint(["job"], ["jobs.number"], name=op.f("fk_catalogs_job")),
        sa.PrimaryKeyConstraint("archive", name=op.f("pk_catalogs")),
        sa.UniqueConstraint("job", "number", "generation", name=op.f("uq_catalogs_job")),
    )
    op.create_table(
        "chunks",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("prefix", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.LargeBinary(), nullable=False),
        sa.Column("archive", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("frame", sa.Integer(), nullable=False),
        sa.Column("offset", sa.Integer(), nullable=False),
        sa.Column("length", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["archive"], ["archives.number"], name=op.f("fk_chunks_archive")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_chunks")),
    )
    op.create_index("ix_chunks_prefix", "chunks", ["prefix"], unique=False)
    op.create_table(
        "frames",
        sa.Column("archive", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("offset", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("sealed_length", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("raw_length", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("flags", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["archive"], ["archives.number"], name=op.f("fk_frames_archive")),
        sa.PrimaryKeyConstraint("archive", "number", name=op.f("pk_frames")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hints",
        sa.Column("entry", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("inode", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("ctime_ns", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("is_mount", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entry"], ["entries.number"], name=op.f("fk_hints_entry"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("entry", name=op.f("pk_hints")),
    )
    op.create_table(
        "restores",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("snapshot", sa.Text(), nullable=False),
        sa.Column("vault", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("path", sa.LargeBinary(), nullable=False),
        sa.Column("target", sa.LargeBinary(), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("finished_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(["snapshot"], ["snapshots.id"], name=op.f("fk_restores_snapshot")),
        sa.ForeignKeyConstraint(["vault"], ["vaults.number"], name=op.f("fk_restores_vault")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_restores")),
        sa.UniqueConstraint("id", name=op.f("uq_restores_id")),
    )
    op.create_table(
        "staged_hints",
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("entry", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("inode", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("ctime_ns", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("is_mount", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["entry"], ["entries.number"], name=op.f("fk_staged_hints_entry")),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_staged_hints_run")),
        sa.PrimaryKeyConstraint("run", "entry", name=op.f("pk_staged_hints")),
    )
    op.create_table(
        "staged_removals",
        sa.Column("run", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("entry", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["entry"], ["entries.number"], name=op.f("fk_staged_removals_entry")),
        sa.ForeignKeyConstraint(["run"], ["runs.number"], name=op.f("fk_staged_removals_run")),
        sa.PrimaryKeyConstraint("run", "entry", name=op.f("pk_staged_removals")),
    )
    op.create_table(
        "uploads",
        sa.Column("archive", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("upload_id", sa.Text(), nullable=True),
        sa.Column("part_size", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("spool_file", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["archive"], ["archives.number"], name=op.f("fk_uploads_archive")),
        sa.PrimaryKeyConstraint("archive", name=op.f("pk_uploads")),
    )
    op.create_table(
        "catalog_archives",
        sa.Column("catalog", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("archive", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["archive"], ["archives.number"], name=op.f("fk_catalog_archives_archive")),
        sa.ForeignKeyConstraint(["catalog"], ["catalogs.archive"], name=op.f("fk_catalog_archives_catalog")),
        sa.PrimaryKeyConstraint("catalog", "archive", name=op.f("pk_catalog_archives")),
    )
    op.create_table(
        "retrievals",
        sa.Column("number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("restore", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("archive", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("start", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("end", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("tier", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("retrieval_id", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("requested_at", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.ForeignKeyConstraint(["archive"], ["archives.number"], name=op.f("fk_retrievals_archive")),
        sa.ForeignKeyConstraint(["restore"], ["restores.number"], name=op.f("fk_retrievals_restore")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_retrievals")),
        sa.UniqueConstraint("token", name=op.f("uq_retrievals_token")),
    )
    op.create_index("ix_retrievals_restore", "retrievals", ["restore"], unique=False)
