"""What is printed: sizes and times, names that would trick a terminal, tables, JSON, progress."""

from __future__ import annotations

import base64
import io
import json
import unicodedata
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from backup.cli.render import progress, render
from backup.cli.render.tables import Column
from backup.cli.render.terminal import TerminalBar
from backup.model import SnapshotId, Tier


class _Terminal(io.StringIO):
    """A text that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("short", "short"),
        ("nightvault: one two three four", "nightvault: one two\n  three four"),
        ("  next: `nightvault key accept FILE` now", "  next:\n  `nightvault key accept FILE`\n  now"),
        ("one\n  two three four five six", "one\n  two three four\n  five six"),
        ("NVK1-" + "A" * 40, "NVK1-" + "A" * 40),
    ],
)
def test_messages_fit_a_terminal_and_are_whole_in_a_pipe(
    text: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert render.wrapped(text, _Terminal()) == shown
    assert render.wrapped(text, io.StringIO()) == text


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536 * 1024, "1.5 MiB"),
        (1024**2 - 1, "1.0 MiB"),
        (1024**3 - 1, "1.0 GiB"),
        (40 * 1024**4, "40.0 TiB"),
        (5000 * 1024**6, "5000.0 EiB"),
        (-2048, "-2.0 KiB"),
    ],
)
def test_sizes(count: int, shown: str) -> None:
    assert render.size(count) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (0.04, "0 s"),
        (0.05, "0.1 s"),
        (0.4, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (18120, "5 h 2 min"),
        (86400 * 2 + 3 * 3600 + 59, "2 d 3 h"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    assert render.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "noun", "shown"),
    [(1, "archive", "1 archive"), (0, "archive", "0 archives"), (1024, "entry", "1,024 entries")],
)
def test_counts_with_their_nouns(count: int, noun: str, shown: str) -> None:
    assert render.counted(count, noun) == shown


def test_only_long_archive_ids_are_shortened() -> None:
    assert render.shown_archive("x" * 138) == "x" * 16 + "…"
    assert render.shown_archive("20261124-catalog-7f00") == "20261124-catalog-7f00"
    assert render.shown_archive(None) is None


def test_rates_times_and_ids() -> None:
    assert render.rate(3 * 1024**2, 2) == "1.5 MiB/s"
    assert render.rate(5, 0) == "-"
    moment = datetime(2026, 11, 24, 1, 30, tzinfo=UTC)
    assert render.local_time(moment, ZoneInfo("Europe/Berlin")) == "2026-11-24 02:30 CET"
    assert render.local_time(None) == "-"
    assert render.shown_id(SnapshotId("0123456789abcdef")) == "01234567"


# Names.


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"/etc/passwd", "/etc/passwd"),
        ("/home/jörg/読む".encode(), "/home/jörg/読む"),
        (b"/tmp/caf\xe9", r"/tmp/caf\xe9"),
        (b"/tmp/\x1b[2J\r\n", r"/tmp/\x1b[2J\x0d\x0a"),
        ("/tmp/\u202egnp.exe".encode(), r"/tmp/\u202egnp.exe"),
        ("/tmp/\U000e0041".encode(), r"/tmp/\U000e0041"),
        (b"/tmp/\xed\xa0\x80", r"/tmp/\xed\xa0\x80"),
    ],
)
def test_paths_are_shown_without_tricks(path: bytes, shown: str) -> None:
    assert render.shown_path(path) == shown


@given(st.binary())
def test_any_path_can_be_printed_on_one_line(path: bytes) -> None:
    shown = render.shown_path(path)
    assert shown.encode() is not None
    assert not {unicodedata.category(letter) for letter in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


@given(st.binary())
def test_any_path_comes_back_from_json(path: bytes) -> None:
    read = json.loads(render.json_line(render.path_document(path)))
    exact = base64.b64decode(read["path_b64"]) if "path_b64" in read else read["path"].encode()
    assert exact == path


def test_texts_keep_their_lines_and_lose_their_tricks() -> None:
    assert render.printable("one\n\ttwo\x1b[31m\udcff") == "one\n\ttwo\\x1b[31m\\xff"


# JSON.


class Sample(Struct, frozen=True):
    when: datetime
    tier: Tier
    sizes: tuple[int, ...]


def test_json_is_one_line_of_plain_values() -> None:
    line = render.json_line(Sample(datetime(2026, 11, 24, 1, 2, 3, tzinfo=UTC), Tier.BULK, (1, 2)))
    assert line == '{"when":"2026-11-24T01:02:03Z","tier":"bulk","sizes":[1,2]}'


def test_json_commands_no_terminal() -> None:
    line = render.json_line({"path": "a\x7fb\x9bc\x1bd é"})
    assert line == '{"path":"a\\u007fb\\u009bc\\u001bd é"}'
    assert json.loads(line)["path"] == "a\x7fb\x9bc\x1bd é"


def test_json_survives_a_message_with_bytes_that_are_no_text() -> None:
    line = render.json_line({"message": "cannot read caf\udce9"})
    assert line.isascii()
    assert json.loads(line)["message"] == "cannot read caf\udce9"


# Tables.


def drawn(*args: object, **kwargs: object) -> str:
    stream = io.StringIO()
    render.print_rich(render.table(*args, **kwargs), stream)  # type: ignore[arg-type]
    return stream.getvalue()


def test_a_table_in_a_pipe_has_no_colour_no_markup_and_no_broken_lines() -> None:
    long = "x" * 400
    text = drawn(
        ["name", Column("size", right=True)], [["[red]a[/red]", 1], [b"caf\xe9\x1b", None], [long, 3]]
    )
    lines = [line.rstrip() for line in text.splitlines()]
    assert "\x1b" not in text
    assert lines[0].split() == ["name", "size"]
    assert lines[1].split() == ["[red]a[/red]", "1"]
    assert lines[2].split() == [r"caf\xe9\x1b", "-"]
    assert lines[3].split() == [long, "3"]


def test_a_table_shows_times_as_people_read_them() -> None:
    moment = datetime(2026, 11, 24, 1, 30, tzinfo=UTC)
    assert render.local_time(moment) in drawn(["when"], [[moment]], title="Runs")


# Progress.


class Watch:
    """A monotonic clock moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def test_plain_lines_are_few_and_tell_rate_and_rest() -> None:
    stream, watch = io.StringIO(), Watch()
    lines = progress.PlainLines(stream, monotonic=watch)
    lines.start("backup etc", total=100 * 1024**2)
    for _ in range(40):
        watch.seconds += 1
        lines.advance(files=2, done=1024**2, stored=512 * 1024)
    lines.note("a file changed\x1b while it was read")
    lines.finish()
    assert stream.getvalue().splitlines() == [
        "backup etc: 100.0 MiB",
        "backup etc: 20 files, 10.0 MiB of 100.0 MiB, 5.0 MiB stored, 1.0 MiB/s, 1 min 30 s left",
        "backup etc: 40 files, 20.0 MiB of 100.0 MiB, 10.0 MiB stored, 1.0 MiB/s, 1 min 20 s left",
        "backup etc: 60 files, 30.0 MiB of 100.0 MiB, 15.0 MiB stored, 1.0 MiB/s, 1 min 10 s left",
        "backup etc: 80 files, 40.0 MiB of 100.0 MiB, 20.0 MiB stored, 1.0 MiB/s, 1 min left",
        r"a file changed\x1b while it was read",
        "backup etc: done, 80 files, 40.0 MiB, 20.0 MiB stored, 1.0 MiB/s in 40 s",
    ]


def test_plain_lines_become_rarer_in_a_long_run() -> None:
    stream, watch = io.StringIO(), Watch()
    lines = progress.PlainLines(stream, monotonic=watch)
    lines.start("upload")
    for _ in range(10 * 3600):
        watch.seconds += 1
        lines.advance(done=1)
    assert len(stream.getvalue().splitlines()) < 100


def test_json_lines_are_documents() -> None:
    stream, watch = io.StringIO(), Watch()
    lines = progress.JsonLines(stream, monotonic=watch)
    lines.start("restore", total=10)
    watch.seconds = 2
    lines.advance(files=1, done=4)
    lines.note("waiting")
    lines.finish()
    documents = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [document.get("note") for document in documents] == [None, None, "waiting", None]
    assert documents[1]["progress"] == {
        "title": "restore", "total": 10, "files": 1, "done": 4, "stored": 0, "counts": "file",
        "packed": 0, "uploaded": 0,
        "seconds": 2.0, "seconds_left": 3.0, "finished": False,
    }  # fmt: skip
    assert documents[3]["progress"]["finished"] is True


def test_a_bar_is_drawn_and_leaves_its_last_figures() -> None:
    stream, watch = io.StringIO(), Watch()
    bar = TerminalBar(stream, monotonic=watch)
    bar.note("before")
    bar.start("backup", total=2048)
    watch.seconds = 2
    bar.advance(files=1234, done=1024, stored=512)
    bar.note("half\x1b of it")
    bar.advance(done=1024)
    bar.start("catalog")
    bar.finish()
    bar.finish()
    text = stream.getvalue()
    assert text.startswith("before\nhalf\\x1b of it\n")
    assert text.rstrip().splitlines()[-1] == "catalog: done in 0 s"
