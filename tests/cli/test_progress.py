"""Progress tells the truth: three figures, the time of the slowest, never more than all."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from backup.app import SystemClock
from backup.app.restores.silence import Silent
from backup.cli.render.progress import Figures, JsonLines, PlainLines
from backup.cli.render.terminal import TerminalBar
from backup.model import MIB
from backup.protocols import phase
from tests.support.servers import Cloud, HurryingClock, Server, directory_server, running_cloud

FOREIGN = "Sicherung der Bücher, 日本語の名前, שלום עולם, e\u0301" + "\u0301" * 3


class Watch:
    """A monotonic clock moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def grown(**values: int) -> Figures:
    figures = Figures("backup", 100 * MIB)
    figures.add(**{"files": 0, "done": 0, "packed": 0, "uploaded": 0, "stored": 0, **values})
    return figures


def test_three_figures_for_people() -> None:
    """Seen, uploaded and stored are told apart."""
    figures = grown(files=3, done=50 * MIB, packed=20 * MIB, uploaded=10 * MIB, stored=4 * MIB)
    assert figures.long(10) == (
        "3 files, 50.0 MiB of 100.0 MiB seen, 10.0 MiB of 20.0 MiB uploaded, 4.0 MiB stored, 1.0 MiB/s"
    )
    assert list(figures.short(10)) == [
        "seen 50.0/100.0 MiB",
        "uploaded 10.0/20.0 MiB",
        "stored 4.0 MiB",
        "3 files",
        "1.0 MiB/s",
    ]


def test_the_time_left_is_that_of_the_slowest() -> None:
    """All was read, and half of it is still to go up."""
    all_read = grown(done=100 * MIB, packed=40 * MIB, uploaded=20 * MIB)
    assert all_read.seconds_left(10) == pytest.approx(10)
    half_read = grown(done=50 * MIB, packed=20 * MIB, uploaded=10 * MIB)
    assert half_read.seconds_left(10) == pytest.approx(30)  # 40 MiB to come, a quarter is up
    assert grown(done=50 * MIB).seconds_left(10) == pytest.approx(10)
    assert grown(done=50 * MIB, packed=1).seconds_left(10) is None  # nothing went up: nobody knows


@given(
    total=st.one_of(st.none(), st.integers(0, 2**40)),
    counts=st.lists(st.integers(0, 2**40), min_size=4, max_size=4),
    seconds=st.floats(0.01, 1e6),
)
def test_never_more_than_all_nor_done_before(total: int | None, counts: list[int], seconds: float) -> None:
    """No figure is above its whole, no time below zero, and a bar is full at the end alone."""
    figures = Figures("x", total)
    done, packed, uploaded, stored = counts
    figures.add(files=1, done=done, packed=packed, uploaded=uploaded, stored=stored)
    assert figures.total is None or figures.total >= done
    assert figures.share is None or 0 <= figures.share < 1
    assert (figures.seconds_left(seconds) or 0) >= 0
    for text in (figures.long(seconds), *figures.short(seconds)):
        assert "-" not in text.replace("e-", "")


def test_done_is_said_at_the_end_alone() -> None:
    """A phase that an error ends is not done."""
    stream = io.StringIO()
    lines = PlainLines(stream)
    with pytest.raises(ZeroDivisionError), phase(lines, "backup"):
        raise ZeroDivisionError
    lines.finish()  # nothing is open any more
    assert stream.getvalue().splitlines() == ["backup", "backup: not done in 0 s"]
    documents = io.StringIO()
    with pytest.raises(ZeroDivisionError), phase(JsonLines(documents), "backup"):
        raise ZeroDivisionError
    last = json.loads(documents.getvalue().splitlines()[-1])["progress"]
    assert (last["finished"], last["done_well"]) == (True, False)


def test_a_wait_is_not_silent() -> None:
    """Lines come although nothing is told, from a thread that ends with the phase."""
    stream, watch = io.StringIO(), Watch()
    lines = PlainLines(stream, monotonic=watch)
    lines.start("upload", 10)
    watch.seconds = 11
    deadline = time.monotonic() + 10
    while len(stream.getvalue().splitlines()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    lines.finish()
    watch.seconds = 100
    time.sleep(1.2)
    assert len(stream.getvalue().splitlines()) == 3
    assert stream.getvalue().splitlines()[1].startswith("upload: 0 B of 10 B")


def test_notes_from_any_thread_are_whole_lines() -> None:
    """Whoever waits says so itself."""
    stream = io.StringIO()
    lines = JsonLines(stream)

    def write() -> None:
        for _ in range(50):
            lines.note("x" * 500)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([json.loads(line) for line in stream.getvalue().splitlines()]) == 200


@pytest.mark.parametrize("width", [40, 80, 120])
@pytest.mark.parametrize("title", ["Backing up main", f"Backing up {'m' * 64}", FOREIGN])
def test_the_bar_fits_any_terminal(width: int, title: str) -> None:
    """Two lines at 40, 80 and 120 columns, whatever letters the title has."""
    watch = Watch()
    bar = TerminalBar(io.StringIO(), monotonic=watch)
    bar.start(title, 20 * 2**30)
    watch.seconds = 100
    bar.advance(files=1_234_567, done=10 * 2**30, packed=3 * 2**30, uploaded=2**30, stored=2**29)
    console = Console(file=io.StringIO(), width=width)
    drawn = io.StringIO()
    Console(file=drawn, width=width).print(bar._frame(console))
    bar.finish()
    lines = drawn.getvalue().splitlines()
    assert len(lines) == 2
    assert all(cell_len(line.rstrip()) <= width for line in lines)
    assert "left" in lines[0]
    assert "seen 10.0/20.0 GiB" in lines[1]
    if width >= 80:
        assert "uploaded 1.0/3.0 GiB" in lines[1]
        assert "stored 512.0 MiB" in lines[1]


# Whole runs.


class Kept(Silent):
    """Everything that was told, in order."""

    def __init__(self) -> None:
        self.figures = Figures()
        self.seen: list[tuple[str, int, int, int, int]] = []
        self.ends: list[tuple[str, bool, Figures]] = []
        self.notes: list[str] = []

    def start(self, title: str, total: int | None = None, *, counts: str = "file") -> None:
        self.figures = Figures(title, total, counts)

    def advance(
        self, *, files: int = 0, done: int = 0, packed: int = 0, uploaded: int = 0, stored: int = 0
    ) -> None:
        self.figures.add(files=files, done=done, packed=packed, uploaded=uploaded, stored=stored)
        figures = self.figures
        self.seen.append((figures.title, figures.done, figures.packed, figures.uploaded, figures.stored))

    def note(self, text: str) -> None:
        self.notes.append(text)

    def finish(self, *, is_done: bool = True) -> None:
        self.ends.append((self.figures.title, is_done, self.figures))


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> Kept:
    made = Kept()
    monkeypatch.setattr("backup.cli.support.context.Cli.progress", lambda _: made)
    return made


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path, clock=SystemClock())
    (made.source / "large.bin").write_bytes(bytes(range(256)) * 40_000)
    (made.source / "empty").mkdir()
    made.init()
    return made


def test_the_same_counts_everywhere(server: Server, kept: Kept) -> None:
    """Report, snapshots, `holds` and progress agree, and directories are no files."""
    for _ in range(2):
        kept.ends.clear()
        report = server.backup()
        (title, is_done, figures) = kept.ends[-1]
        assert (title, is_done) == ("Backing up main", True)
        snapshot = server.json("snapshots")[-1]
        assert figures.files == report["files"] == snapshot["files"] == 5
        assert figures.done == report["bytes"] == snapshot["bytes"]
        assert figures.stored == figures.uploaded == figures.packed == report["bytes_uploaded"]
        (server.source / "a.txt").write_text("changed")


def test_what_cannot_be_read_is_not_held(server: Server, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new file that could not be read is in no count, one that is kept as it was is."""
    server.backup()
    from backup.source import read

    open_file = read.open_file

    def refuse(handle: int, name: bytes) -> int:
        if name in {b"new.bin", b"large.bin"}:
            raise read.FileUnreadableError("no")
        return open_file(handle, name)

    monkeypatch.setattr("backup.archiver.contents.open_file", refuse)
    (server.source / "new.bin").write_bytes(b"n" * 3_000_000)
    (server.source / "large.bin").write_bytes(b"l" * 5_000_000)
    report = server.json("backup", "main", exit_code=3)[0]
    held = [entry for entry in server.json("ls", "-r", "latest") if entry["kind"] != "directory"]
    assert "new.bin" not in {entry["path"].rpartition("/")[2] for entry in held}
    assert report["files"] == len(held) == server.json("snapshots")[-1]["files"]
    assert report["bytes"] == sum(entry["size"] for entry in held if entry["kind"] == "file")
    assert kept.ends[-1][2].files == report["files"]
    assert kept.ends[-1][2].done == report["bytes"]


def test_figures_move_while_a_large_file_is_read_and_sent(server: Server, kept: Kept) -> None:
    """They grow step by step, in their order, and end together."""
    (server.source / "huge.bin").write_bytes(b"".join(bytes([n % 251]) * 4096 for n in range(12_000)))
    server.backup()
    seen = [line for line in kept.seen if line[0] == "Backing up main"]
    dones = [line[1] for line in seen]
    assert dones == sorted(dones)
    assert len({done for done in dones if 0 < done < dones[-1]}) >= 3
    for _, _, packed, uploaded, stored in seen:
        assert stored <= uploaded <= packed


def test_a_backup_that_fails_is_not_done(server: Server, kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last word of a phase is that of the run."""
    from backup.errors import VaultError

    def fail(*_: object, **__: object) -> None:
        raise VaultError("the catalog was refused")

    monkeypatch.setattr("backup.catalogs.sending.CatalogSender.delta_of_backup", fail)
    server.fails(1, "backup")
    assert kept.ends[-1][:2] == ("Backing up main", False)


def test_restores_dumps_and_checks_end_as_they_should(server: Server, kept: Kept, tmp_path: Path) -> None:
    """Each command's phases end done, with no more than all."""
    server.backup()
    key = ("--key", server.key_file)
    server.done("restore", "latest", "--target", tmp_path / "out", *key, "--verify")
    server.done("dump", f"latest:{server.source}/large.bin", *key, "-o", tmp_path / "x")
    server.done("check", "--read-data", "100%", *key)
    server.done("check", "--inventory")
    server.done("rebuild", "--set-aside", *key)
    titles = [title for title, is_done, _ in kept.ends if is_done]
    for title in ("Restoring", "Reading back", "Dumping", "Reading archives", "Checking", "Rebuilding"):
        assert any(shown.startswith(title) for shown in titles), titles
    for _, is_done, figures in kept.ends:
        assert is_done
        assert figures.total is None or figures.done <= figures.total


# Waiting.


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


def test_a_restore_says_when_it_is_expected(cloud: Cloud, tmp_path: Path) -> None:
    """The same in the sentence, in `restores`, in JSON, and while it stays."""
    server = cloud.server(tmp_path, vault="expected", clock=HurryingClock(cloud.emulator))
    server.init()
    server.backup()
    words = ("restore", "latest", "--target", tmp_path / "out", "--key", server.key_file)
    told = server.waits(*words).stdout
    assert "expected between" in told
    document = server.json(*words, exit_code=17)
    (listed,) = server.json("restores")
    assert document["expected_at"] == listed["expected_at"] is not None
    assert "expected" in server.done("restores").stdout
    stayed = server.done(*words, "--wait").stderr
    assert "expected between" in stayed
    assert "Restore " in stayed
