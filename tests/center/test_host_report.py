"""Laws of reports: changes make the whole again; what comes from outside is bounded and named."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backup.errors import FormatError, NewerFormatError
from backup.format.host_report import (
    CERTIFICATE,
    CHAIN,
    MOST_BYTES,
    SIGNATURE,
    HostReport,
    ReportObject,
    begun_at,
    changed_by,
    changes_between,
    join_name,
    names_since,
    new_chain,
    object_of,
    read_object,
    read_report,
    report_name,
    shortened,
    signed_text,
    told_whole,
    written_object,
    written_report,
)

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)
LEAVES = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-2, 2) | TEXTS
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=20,
)
DOCUMENTS = st.dictionaries(TEXTS, VALUES, max_size=5)
FIRST = "0123456789abcdef" * 2


def same(one: Any, other: Any) -> bool:
    return msgspec.json.encode(one, order="sorted") == msgspec.json.encode(other, order="sorted")


@given(DOCUMENTS, DOCUMENTS)
@settings(max_examples=400)
def test_changes_make_the_new_of_the_old(old: dict[str, Any], new: dict[str, Any]) -> None:
    changes = changes_between(old, new)
    assert same(told_whole(old, json.loads(json.dumps(changes))), new)
    assert (changes == {}) == same(old, new)


@given(DOCUMENTS)
def test_the_first_report_is_the_whole(new: dict[str, Any]) -> None:
    assert same(told_whole({}, changes_between({}, new)), new)


@given(VALUES, VALUES)
@settings(max_examples=400)
def test_foreign_changes_are_applied_or_refused(old: Any, changes: Any) -> None:
    with suppress(FormatError):
        changed = changed_by(old, changes)
        assert same(json.loads(json.dumps(changed)), changed), "it is a document, and can be stored"


@given(
    st.recursive(
        st.just({}) | st.builds(lambda value: {"to": value}, VALUES),
        lambda inner: st.fixed_dictionaries(
            {},
            optional={
                "in": VALUES
                | st.dictionaries(TEXTS | st.sampled_from(["0", "1", "-1", "²"]), inner, max_size=3),
                "set": VALUES | st.dictionaries(TEXTS, VALUES, max_size=3),
                "del": VALUES | st.lists(TEXTS, max_size=3),
            },
        ),
    ),
    VALUES,
)
@settings(max_examples=400)
def test_changes_of_the_right_form_are_applied_or_refused(changes: Any, old: Any) -> None:
    with suppress(FormatError):
        changed = changed_by(old, changes)
        assert same(json.loads(json.dumps(changed)), changed), "it is a document, and can be stored"


def test_one_true_and_one_point_nought_are_three_values() -> None:
    assert changes_between({"a": 1}, {"a": True}) == {"in": {"a": {"to": True}}}
    assert changes_between({"a": 1}, {"a": 1.0}) == {"in": {"a": {"to": 1.0}}}


def test_a_night_of_fifty_jobs_is_a_few_hundred_bytes() -> None:
    jobs = [
        {"job": f"job{number}", "last_good": "2026-12-01T02:00:00Z", "well": True} for number in range(50)
    ]
    later = [{**job, "last_good": "2026-12-02T02:00:00Z"} if job["job"] == "job7" else job for job in jobs]
    changes = changes_between({"jobs": jobs}, {"jobs": later})
    assert len(json.dumps(changes)) < 200 < len(json.dumps(jobs))


def nested(whole: dict[str, Any], times: int) -> dict[str, Any]:
    for _ in range(times):
        whole = told_whole({"a": whole}, {})
    return whole


def grown(whole: dict[str, Any], times: int) -> dict[str, Any]:
    for key in range(times):
        whole = told_whole(whole, {"set": {str(key): "x" * 100_000}})
    return whole


def report(**more: Any) -> HostReport:
    return HostReport(
        **{"chain": FIRST, "number": 1, "at": 1_790_000_000, "program": "1.0", "changes": {}, **more}
    )


def test_a_report_is_read_as_it_was_written() -> None:
    told = report(changes={"set": {"well": True}}, before="f" * 32, before_number=9)
    assert read_report(written_report(told)) == told


def test_a_later_field_is_left_out_and_a_later_version_named() -> None:
    document = json.loads(written_report(report()))
    assert read_report(json.dumps({**document, "weather": "fine"}).encode()) == report()
    with pytest.raises(NewerFormatError, match="version 2: this center knows versions up to 1"):
        read_report(b'{"version": 2, "all": "new"}')


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no report"),
        (b"\xff\xfe", "no report"),
        (b"[]", "no report"),
        (b"[" * 500_000, "no report"),
        (b'{"version": 0}', "no report"),
        (b'{"version": 1}', "no report"),
        (b" " * (MOST_BYTES + 1), "more than 1048576 bytes"),
        (written_report(report(number=0)), "no report"),
        (written_report(report(number=2**60)), "no report"),
        (written_report(report(chain="../../etc/passwd")), "no report"),
        (written_report(report(chain="A" * 32)), "no report"),
        (written_report(report(at=-1)), "no report"),
        (written_report(report(program="x" * 101)), "no report"),
        (written_report(report(number=2, before=FIRST)), "only the first one"),
        (written_report(report(changes={"set": {"a": "\0"}})), "NUL"),
        (written_report(report(changes={"set": {"\0": 1}})), "NUL"),
        (written_report(report(changes={"to": [0] * 60_000})), "more than 50000 values"),
    ],
)
def test_no_report(data: bytes, why: str) -> None:
    with pytest.raises(FormatError, match=why):
        read_report(data)


def test_deep_nesting_is_refused_when_it_comes_and_when_it_adds_up() -> None:
    deep: Any = 1
    for _ in range(30):
        deep = {"a": deep}
    with pytest.raises(FormatError, match="nested"):
        read_report(written_report(report(changes=deep)))
    with pytest.raises(FormatError, match="nested"):
        nested({}, 30)


def test_what_is_told_altogether_stays_bounded() -> None:
    with pytest.raises(FormatError, match="at most 1048576 bytes"):
        grown({}, 30)


@given(DOCUMENTS, st.integers(60, 400))
def test_what_is_shortened_fits_and_says_so(document: dict[str, Any], most: int) -> None:
    document = {"jobs": [document] * 3, "text": "ä" * 3000}
    short = shortened(document, most * 100)
    assert short == document or short["cut"] is True
    assert len(msgspec.json.encode(short)) <= most * 100 + 12


def test_what_is_short_is_told_as_it_is() -> None:
    assert shortened({"a": [1, "b", None]}) == {"a": [1, "b", None]}


def test_the_signed_text_holds_host_and_body() -> None:
    texts = {signed_text("one", b"a"), signed_text("two", b"a"), signed_text("one", b"b")}
    assert len(texts) == 3
    assert signed_text("ONE", b"a") == signed_text("one", b"a")


@given(st.integers(0, 0xFFFF_FFFF), st.binary(min_size=12, max_size=12), st.integers(1, 1 << 53), st.binary())
def test_names_of_objects_are_in_the_order_of_time_and_number(
    seconds: int, drawn: bytes, number: int, body: bytes
) -> None:
    chain = new_chain(seconds, drawn)
    name = report_name(chain, number, body)
    assert (begun_at(chain), object_of(name)) == (seconds, ReportObject(chain, number))
    assert names_since(seconds) < name < report_name(chain, number + 1, b"")
    assert object_of(join_name(seconds, body)) == ReportObject()
    assert names_since(seconds) < join_name(seconds, body)


@pytest.mark.parametrize(
    "name", ["", "reports/", "data/a/b", "reports/x", f"reports/{'0' * 32}/1-a", f"/reports/{'0' * 32}"]
)
def test_other_names_are_none_of_objects(name: str) -> None:
    assert object_of(name) is None


def test_an_object_has_its_signed_headers_and_the_body() -> None:
    headers = {CERTIFICATE: "YQ==", SIGNATURE: "Yg==", CHAIN: "Yw=="}
    found, body = read_object(written_object(headers, b"one\ntwo"))
    assert ({name.title(): value for name, value in found.items()}, body) == (headers, b"one\ntwo")
    assert read_object(written_object({CERTIFICATE: "a", SIGNATURE: "b"}, b""))[1] == b""
    for data in (b"", b"{}\n", b"[" * 90_000, b'{"certificate":1,"signature":"a"}\n', b"\xff\n"):
        with pytest.raises(FormatError, match="no report: its first line"):
            read_object(data)
