"""Each key of the config is in config.example.toml and in docs/configuration.md, and they name no other."""

from __future__ import annotations

import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from backup.config import load_config
from backup.config.retention import RetentionSettings
from backup.config.settings import LISTS, SECTIONS
from tests.pages.findings import assert_none
from tests.pages.page import blocks_of
from tests.support.emulated import REPOSITORY

EXAMPLE = re.sub(
    r"^# (\[|[a-z0-9_]+ = )", r"\1", (REPOSITORY / "config.example.toml").read_text(), flags=re.MULTILINE
)
PAGE = (REPOSITORY / "docs" / "configuration.md").read_text()
TABLES: dict[str, type[Struct]] = {**SECTIONS, **LISTS, "retention": RetentionSettings}
EXCEPTIONS = {("vault", name) for name in ("from", "to", "limit")}  # shown in a comment, as another form
WHAT_TO_DO = (
    "show each key of the config in config.example.toml, commented out (`# key = default`; `# or: key = …` "
    "for one that excludes those above), and explain it in docs/configuration.md, in the table of its section"
)


def structs_in(kind: Any) -> Iterator[type[Struct]]:
    """The structs that a type is made of."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield kind
    for part in typing.get_args(kind):
        yield from structs_in(part)


def keys_of(kind: type[Struct]) -> Iterator[str]:
    """The keys of a table, and of the tables in it."""
    for field in msgspec.structs.fields(kind):
        yield field.encode_name
        for below in structs_in(field.type):
            if below is not RetentionSettings:  # a table of its own
                yield from keys_of(below)


def keys_in(value: object) -> Iterator[str]:
    """The keys of a table as it is written."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield key
            yield from keys_in(below)
    elif isinstance(value, list):
        for part in value:
            yield from keys_in(part)


def alternatives(table: str) -> set[str]:
    """The keys that a table of the example shows as alternatives: `# or: key = …`, not beside others."""
    parts = re.split(r"^\[+([\w]+)[\w.]*\]+", EXAMPLE, flags=re.MULTILINE)
    return {
        key
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
        if name == table
        for key in re.findall(r"^# or: (\w+) = ", text, re.MULTILINE)
    }


ALL = sorted({(table, key) for table, kind in TABLES.items() for key in keys_of(kind)})


def test_the_example_names_each_key() -> None:
    example = tomllib.loads(EXAMPLE)
    there = {(table, key) for table in TABLES for key in keys_in(example.get(table, {}))}
    there |= {(table, key) for table in TABLES for key in alternatives(table)}
    missing = [
        f"config.example.toml lacks {key} of [{table}]" for table, key in sorted({*ALL} - there - EXCEPTIONS)
    ]
    assert_none(missing, WHAT_TO_DO)


def test_the_page_explains_each_key() -> None:
    there = set(re.findall(r"`(?:\[+[\w.]+\.)?(\w+)\]*`", PAGE)) | {"from"}
    missing = [f"docs/configuration.md lacks {key} of [{table}]" for table, key in ALL if key not in there]
    assert_none(missing, WHAT_TO_DO)


def test_the_page_begins_with_a_whole_config(tmp_path: Path) -> None:
    """Then come vaults and jobs, which each reader wants first."""
    block = next(
        block for block in blocks_of(REPOSITORY / "docs" / "configuration.md") if block.language == "toml"
    )
    path = tmp_path / "config.toml"
    path.write_text(block.text)
    config = load_config(str(path))
    assert [job.schedule is not None for job in config.jobs] == [True]
    assert config.jobs[0].retention is not None
    sections = re.findall(r"^## (.*)$", PAGE, re.MULTILINE)
    assert sections[:2] == ["[[vault]]", "[[job]]"]


def test_the_page_has_no_other_keys() -> None:
    known = {key for _, key in ALL}
    rows = re.findall(r"^\| ((?:`\S+`(?:, )?)+) \|", PAGE, re.MULTILINE)
    named = {key for row in rows for key in re.findall(r"`(\w+)`", row)}
    unknown = sorted(named - known)
    assert not unknown, f"docs/configuration.md explains keys that are not there: {', '.join(unknown)}"
