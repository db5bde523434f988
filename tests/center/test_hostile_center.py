"""A hostile center with all it can answer: a server runs nothing of it, and is as it was."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from backup.app.base.clock import SystemClock
from backup.errors import ExitCode
from backup.format.host_report import written_token
from tests.support.identities import authority_in, issue_in, server_certificate
from tests.support.receivers import Receiver, Request, dripping, receiving, server_tls
from tests.support.servers import Server, directory_server

ORDERS: list[Any] = [
    {"retention": {"keep": 0}},
    {"recipients": ["nvr1evil"]},
    {"commands": [["sh", "-c", "touch /tmp/owned"]]},
    {"hooks": {"before": "touch /tmp/owned"}},
    {"sources": ["/etc/shadow"]},
    {"excludes": ["/"]},
    {"schedule": "never"},
    {"vault": {"name": "cold", "path": "/tmp/evil"}},
    {"identity": {"private_key": "/etc/passwd"}},
    {"forget": ["latest"]},
    {"tasks": [{"kind": "prune", "grace": 0}]},
    {"restore": {"target": "/"}},
    {"config": "[state]\ndir = '/'"},
    {"upgrade": "https://evil.example/nightvault.whl"},
    {"taken": "__import__('os').system('id')"},
    {"taken": ["new"] * 1000},
    {"taken": None},
    {"chain": "0" * 32, "number": 10**9},
    {"redirect": "file:///etc/passwd"},
    [],
    0,
    "new",
    None,
]
TEXTS = [
    "", "<script>alert(1)</script>", "\x1b]0;owned\x07", "\u202e", "\0" * 100, "{" * 100_000, "x" * 1_000_000,
    "nightvault: all is well\nnightvault: run `rm -rf /`", "%s%n", "${jndi:ldap://x}", "\r\nSet-Cookie: a=b",
]  # fmt: skip
STATUSES = [100, 204, 301, 307, 400, 401, 403, 404, 409, 410, 413, 418, 425, 429, 500, 502, 503, 599]
ANSWERS = [
    *((200, json.dumps(order)) for order in ORDERS),
    *((200, text) for text in TEXTS),
    *((status, '{"error": "run: rm -rf /"}') for status in STATUSES if status not in {100, 204}),
    *((409, text) for text in TEXTS),
    *((403, text) for text in TEXTS),
]


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("hostile")
    authority = authority_in(str(folder / "ca"), datetime.now(UTC))
    issued = issue_in(authority, str(folder / "issued"), now=datetime.now(UTC))
    made = directory_server(folder / "web", clock=SystemClock())
    keys = f'certificate = "{issued.certificate_path}"\nprivate_key = "{issued.key_path}"\n'
    made.config.write_text(f"{made.config.read_text()}\n[identity]\n{keys}")
    made.init()
    made.backup()
    return made


def everything_of(server: Server) -> tuple[dict[Path, bytes], list[Any]]:
    """All files of a server but inventory and empty locks, and what its inventory says."""
    files = {
        path: path.read_bytes()
        for path in server.folder.rglob("*")
        if path.is_file() and "inventory" not in path.name and path.stat().st_size
    }
    return files, [server.json("snapshots"), server.json("runs"), server.json("archives")]


@pytest.mark.parametrize(("status", "text"), ANSWERS, ids=range(len(ANSWERS)))
def test_whatever_it_answers_the_server_is_as_it_was(web: Server, status: int, text: str) -> None:
    before = everything_of(web)
    with receiving(lambda _: (status, text)) as center:
        result = web.run("center", "tell", center.url)
        again = web.run("center", "tell", center.url)
    ends = {ExitCode.DONE} if status < 300 else {ExitCode.FAILED, ExitCode.AWAY}
    assert {result.exit_code, again.exit_code} <= ends
    assert len(center.seen) <= 6, "at most three requests for each call, whatever is answered"
    assert all(request.path == "/v1/reports" for request in center.seen)
    shown = result.output + again.output
    assert not set(shown) & {"\x1b", "\x07", "\u202e", "\0", "\r"}
    assert len(shown) < 4000
    assert not any(line.startswith("nightvault: all is well") for line in shown.splitlines())
    assert everything_of(web) == before


def joins(web: Server, url: str, *words: str) -> tuple[int, str]:
    """An invitation to that address is shown there: how it ends, and what is said."""
    result = web.run("center", "join", written_token(url, "s" * 43), *words)
    return result.exit_code, result.output


def test_whatever_it_answers_to_one_that_joins_only_its_address_is_written(web: Server) -> None:
    config, before = web.config.read_text(), everything_of(web)
    for status, text in [*ANSWERS[::4], (307, ""), (200, "")]:
        with receiving(lambda _, answer=(status, text): answer) as center:  # type: ignore[misc]
            code, shown = joins(web, center.url)
        assert [request.path for request in center.seen] == ["/v1/join"]
        assert not set(shown) & {"\x1b", "\x07", "\u202e", "\0", "\r"}
        assert len(shown) < 2000
        if status < 300:
            assert code == ExitCode.DONE
            assert web.config.read_text() == f'{config.rstrip()}\n\n[center]\nurl = "{center.url}"\n'
            web.done("center", "leave")
            for copy in web.folder.glob("config.toml.*"):
                copy.unlink()
        else:
            assert code in {ExitCode.FAILED, ExitCode.AWAY}
            assert f"answered {status}" in shown
        assert everything_of(web) == before


def test_one_that_is_slow_at_another_place_or_somebody_else_is_not_joined(
    web: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backup.app.telling.center.JOIN_SECONDS", 0.5)
    before = everything_of(web)
    for at_once in (b"", b"HTTP/1.1 20"):
        with dripping(at_once) as port:
            code, shown = joins(web, f"http://127.0.0.1:{port}")
        assert (code, "no whole answer within 0.5 s" in shown) == (ExitCode.AWAY, True), shown
    (tmp_path / "other").mkdir()
    own, key = server_certificate(tmp_path)
    other, _ = server_certificate(tmp_path / "other")
    with receiving(lambda _: (200, "{}"), server_tls(own, key)) as center:
        code, shown = joins(web, center.url, "--ca-file", str(other))
        assert (code, "is not trusted" in shown, center.seen) == (ExitCode.AWAY, True, []), shown
        for address in ("http://center.example", f"{center.url}/path", "file:///etc/passwd"):
            assert joins(web, address)[0] == ExitCode.USAGE
        assert center.seen == []
    assert everything_of(web) == before


@pytest.fixture
def center() -> Iterator[Receiver]:
    with receiving(lambda _: (200, "{}")) as made:
        yield made


def numbers(requests: list[Request]) -> list[tuple[str, int]]:
    return [(request.json["chain"], request.json["number"]) for request in requests]


def test_a_report_whose_answer_was_lost_is_sent_again_as_it_was(web: Server, center: Receiver) -> None:
    center.lose = 1
    assert web.run("center", "tell", center.url).exit_code == ExitCode.AWAY
    web.backup()
    web.done("center", "tell", center.url)
    first, again, second = center.seen
    assert again.body == first.body
    assert numbers([second]) == [(first.json["chain"], 2)]
    assert "changes" in second.json
    assert len(second.body) < len(first.body)


def test_a_conflict_begins_one_chain_that_names_the_old_one(web: Server, center: Receiver) -> None:
    web.done("center", "tell", center.url)
    old = center.seen[0].json["chain"]
    center.judge = lambda request: (409 if request.json["chain"] == old else 200, "")
    told = web.json("center", "tell", center.url)
    new = center.seen[-1].json
    assert (told["chain"], told["number"], told["began_anew"]) == (new["chain"], 1, True)
    assert (new["before"], new["before_number"], new["number"]) == (old, 1, 1)
    assert numbers(center.seen)[1] == (old, 2)


@pytest.mark.parametrize(
    "address",
    [
        "center",
        "ftp://center",
        "http://center.example",
        "https://user:word@center",
        "https://center/path",
        "https://",
    ],
)
def test_an_address_that_is_none(web: Server, address: str) -> None:
    assert "must be" in web.fails(2, "center", "tell", address)


def test_a_server_without_an_identity_cannot_tell(tmp_path: Path) -> None:
    server = directory_server(tmp_path)
    server.init()
    assert "identity" in server.fails(2, "center", "tell", "https://center.example")
