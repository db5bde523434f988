"""JSON and schemas of values: what one makes, the other describes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from backup.inventory.content.snapshots import Pin, Snapshot
from backup.model import JobName, Problem, ProblemKind, SnapshotId
from backup.web.api.encoding import document, json_of
from backup.web.api.openapi import Schemas
from backup.web.pages.entries import Name
from tests.web.api.schemas import violations


class Colour(StrEnum):
    RED = "red"


class Part(Struct, frozen=True):
    """A part.

    More of it.
    """

    name: Name
    amount: Decimal | None


class Whole(Struct, frozen=True):
    """A whole."""

    at: datetime
    day: date
    parts: Sequence[Part]
    job: JobName
    colour: Colour
    hours: tuple[float, float] | None
    more: Mapping[str, Any]
    age: timedelta
    raw: bytes
    ratio: float


def test_everything_is_plain_json() -> None:
    summer = timezone(timedelta(hours=2))
    value = Whole(
        at=datetime(2026, 6, 1, 2, tzinfo=summer),
        day=date(2026, 6, 1),
        parts=(Part(Name(b"/a\xff\n"), Decimal("1E-7")), Part(Name("/ä".encode()), None)),
        job=JobName("web"),
        colour=Colour.RED,
        hours=(1, 2.5),
        more={"text": "lone \udcff", "deep": [{"x": 1}]},
        age=timedelta(minutes=1),
        raw=b"/x",
        ratio=math.inf,
    )
    found = json.loads(json_of(value))
    assert found == {
        "at": "2026-06-01T00:00:00Z",
        "day": "2026-06-01",
        "parts": [
            {
                "name": {"text": "/a\\xff\\x0a", "path": "/a\ufffd\n", "path_b64": "L2H/Cg=="},
                "amount": "0.0000001",
            },
            {"name": {"text": "/ä", "path": "/ä"}, "amount": None},
        ],
        "job": "web",
        "colour": "red",
        "hours": [1, 2.5],
        "more": {"text": "lone \udcff", "deep": [{"x": 1}]},
        "age": 60.0,
        "raw": {"path": "/x"},
        "ratio": None,
    }
    schemas = Schemas()
    schema = schemas.of(Whole)
    assert list(violations(found, schema, schemas.components)) == []
    for wrong in (
        {**found, "new": 1},
        {**found, "colour": "blue"},
        {**found, "hours": [1]},
        {**found, "at": 5},
    ):
        assert list(violations(wrong, schema, schemas.components))
    assert schemas.components["Part"]["description"] == "A part."


@given(st.text(), st.binary(max_size=30))
def test_any_text_and_any_name_can_be_sent(text: str, name: bytes) -> None:
    found = json_of({"text": text, "name": Name(name)})
    assert found.isascii()
    assert json.loads(found)["text"] == text


def test_what_has_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        document(object())
    with pytest.raises(TypeError):
        Schemas().of(object)
    assert document({datetime(2026, 1, 1, tzinfo=UTC).year: {2, 1}}) == {"2026": [1, 2]}


def test_a_snapshot_has_the_fields_of_the_interface_and_no_others() -> None:
    at = datetime(2026, 11, 26, 1, 12, tzinfo=UTC)
    found = document(
        Snapshot(
            id=SnapshotId("1e5e0c19af37b2d4"),
            job=JobName("www"),
            job_number=1,
            number=30,
            run=430,
            started_at=at,
            finished_at=at,
            host="web1",
            sources=(b"/srv/\xff",),
            problems=(Problem(b"/srv/x", ProblemKind.UNREADABLE, "denied"),),
            files=2,
            bytes=9,
            tags=("before",),
            pin=Pin("keep", at),
        )
    )
    assert found == {
        "id": "1e5e0c19af37b2d4",
        "job": "www",
        "number": 30,
        "run": 430,
        "host": "web1",
        "started_at": "2026-11-26T01:12:00Z",
        "finished_at": "2026-11-26T01:12:00Z",
        "sources": [{"text": "/srv/\\xff", "path": "/srv/\ufffd", "path_b64": "L3Nydi//"}],
        "files": 2,
        "bytes": 9,
        "problems": 1,
        "is_whole": False,
        "forgotten_at": None,
        "tags": ["before"],
        "pin_note": "keep",
        "pin_until": "2026-11-26T01:12:00Z",
    }
