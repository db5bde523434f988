"""Columns that several tables of the inventory have, and how constraints are named."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKey, Integer, LargeBinary, MetaData

_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
TABLES = MetaData(naming_convention=_NAMES)
Long = BigInteger().with_variant(Integer, "sqlite")  # SQLite's rowid alias must be called INTEGER


def number() -> Column[int]:
    """The column of a row's own number."""
    return Column("number", Long, primary_key=True)


def refers(name: str, target: str, *, nullable: bool = False) -> Column[int]:
    """A foreign key: the number of a row of another table, as `table.column`."""
    return Column(name, Long, ForeignKey(target), nullable=nullable)


def entry_columns() -> list[Column[Any]]:
    """The columns of every version of an entry."""
    return [
        Column("name", LargeBinary, nullable=False),
        Column("kind", Integer, nullable=False),
        Column("mode", Integer, nullable=False),
        Column("owner", Long, nullable=False),
        Column("mtime_ns", Long, nullable=False),
        Column("size", Long, nullable=False),
        Column("extra", LargeBinary),
        Column("content_id", LargeBinary),
        Column("chunks", LargeBinary),  # little-endian u32 chunk numbers, in order
    ]


def hint_columns() -> list[Column[Any]]:
    """The columns by which the next backup sees that a file did not change."""
    return [
        Column("inode", Long, nullable=False),
        Column("ctime_ns", Long, nullable=False),
        Column("is_mount", Integer, nullable=False),  # 1: a directory that is another file system's root
    ]
