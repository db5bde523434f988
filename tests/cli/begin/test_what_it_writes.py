"""Whatever is answered, what `begin` writes is fine: `config check` and the doctor have no news."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backup.cli.begin import summary
from backup.format.keys import RecoveryKey
from tests.cli.begin.scripted import NOW
from tests.support.doubles import ManualClock
from tests.support.servers import Server, fill

RECIPIENT = RecoveryKey.from_seed(b"\7" * 32).recipient.to_text()

PLACES: Mapping[str, Mapping[str, st.SearchStrategy[Any]]] = {
    "disk": {"path": st.sampled_from(["vault", "source/vault", "new/deeper/vault"])},
    "aws": {
        "region": st.sampled_from(["eu-central-1", "us-gov-west-1", "ap-south-1"]),
        "class": st.sampled_from(["DEEP_ARCHIVE", "GLACIER", "GLACIER_IR", "STANDARD_IA", "STANDARD"]),
        "certificate": st.sampled_from(["web1.pem", "none-yet.pem"]),
    },
    "glacier": {"region": st.just("eu-central-1"), "vault": st.sampled_from(["nightly", "a.b_c-d"])},
    "s3": {
        "endpoint": st.sampled_from(["https://127.0.0.1:9", "http://127.0.0.1:9/"]),
        "bucket": st.just("example-backups"),
        "region": st.sampled_from(["us-east-1", "garage"]),
        "path_style": st.booleans(),
        "crc64nvme": st.booleans(),
        "class": st.sampled_from(["STANDARD", "COLD_9"]),
    },
}
PEOPLE: Mapping[str, Mapping[str, st.SearchStrategy[Any]]] = {
    "nobody": {},
    "mail": {
        "tell_to": st.just("root@example.org"),
        "mail_server": st.sampled_from(
            ["localhost", "localhost:2525", "[::1]", "mail.example.org", "[2001:db8::1]:25"]
        ),
    },
    "ntfy": {"tell_to": st.just("https://ntfy.example.net/topic")},
    "webhook": {"tell_to": st.just("http://127.0.0.1:8080/in")},
    "ping": {"tell_to": st.just("https://hc.example.net/1234")},
}
OPTIONAL: Mapping[str, st.SearchStrategy[Any]] = {
    "schedule": st.sampled_from(["none", "every 6h", "daily at 02:30", "30 2 * * 1-5", "every 1m"]),
    "keep": st.sampled_from(["standard", "short", "all", "daily=7 keep_weekly=4", "within=1y6m,last=all"]),
    "check": st.sampled_from(["none", "daily", "weekly", "monthly"]),
    "recovery_key": st.sampled_from(["here", RECIPIENT]),
}


@st.composite
def answers(draw: st.DrawFn) -> dict[str, Any]:
    """Answers to all questions that are asked, or to some of those that have a default."""
    where, tell = draw(st.sampled_from(list(PLACES))), draw(st.sampled_from(list(PEOPLE)))
    chosen = draw(st.fixed_dictionaries({}, optional=dict(OPTIONAL)))
    more = {name: draw(strategy) for name, strategy in {**PLACES[where], **PEOPLE[tell]}.items()}
    return {"where": where, "tell": tell, **chosen, **more}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server whose certificate is there, and whose key others may read."""
    made = Server(tmp_path_factory.mktemp("web1"), ManualClock(NOW))
    fill(made.source)
    for name in ("web1.pem", "web1.key"):
        (made.folder / name).write_text("")
        (made.folder / name).chmod(0o644)
    return made


def write_answers(server: Server, given_: Mapping[str, Any]) -> Path:
    paths = {name: str(server.folder / given_[name]) for name in ("path", "certificate") if name in given_}
    usual: dict[str, Any] = {"sources": [str(server.source)]}
    if given_.get("recovery_key", "here") == "here":
        usual["key_file"] = str(server.folder / "recovery.key")
    path = server.folder / "answers.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in (usual | dict(given_) | paths).items()]
    path.write_text("\n".join(lines) + "\n")
    return path


@given(chosen=answers())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_config_check_has_nothing_to_add(server: Server, chosen: dict[str, Any]) -> None:
    """The config is without mistake, and its warnings are those that were shown before it was written."""
    server.config.unlink(missing_ok=True)
    told = server.json("begin", "--dry-run", "--answers", write_answers(server, chosen))
    assert not server.config.exists()
    server.config.write_text(told["text"])
    server.config.chmod(0o600)
    assert server.json("config", "check")["warnings"] == told["warnings"]
    assert max(len(line) for line in told["text"].splitlines() if "nvr1" not in line) <= 80 + len(
        str(server.folder)
    )


@pytest.mark.parametrize(
    "chosen",
    [
        {"where": "disk", "path": "vault", "keep": "all", "first_backup": False},
        {
            "where": "disk",
            "path": "source/vault",
            "check": "none",
            "schedule": "none",
            "recovery_key": RECIPIENT,
        },
        {"where": "aws", "region": "eu-central-1", "certificate": "none-yet.pem"},
        {
            "where": "glacier",
            "region": "eu-central-1",
            "certificate": "none-yet.pem",
            "recovery_key": RECIPIENT,
        },
    ],
    ids=["keeps all", "by hand", "bucket", "glacier"],
)
def test_the_doctor_has_nothing_to_add(tmp_path: Path, chosen: dict[str, Any]) -> None:
    """What it finds after the commands have run was foreseen; a database among the sources, too."""
    server = Server(tmp_path, ManualClock(NOW))
    fill(server.source)
    (server.source / "ibdata1").touch()
    told = server.json("begin", "--answers", write_answers(server, chosen))
    found = server.json("doctor", "--offline", exit_code=1)["findings"]
    assert {finding["check"] for finding in found} <= {finding["check"] for finding in told["findings"]}
    assert {"database", "recovery-lines"} <= {finding["check"] for finding in found}


def test_a_service_that_does_not_answer_keeps_nobody_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "SECONDS", 0.2)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIATEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    server = Server(tmp_path, ManualClock(NOW))
    fill(server.source)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        chosen = {"where": "s3", "endpoint": address, "bucket": "example"}
        begun = time.monotonic()
        told = server.json("begin", "--dry-run", "--answers", write_answers(server, chosen))
        assert time.monotonic() - begun < 5
    assert f"{address} has not answered in 0.2 s" in told["warnings"][0]


def test_where_the_current_directory_was_removed_nothing_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(tmp_path, ManualClock(NOW))
    fill(server.source)
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    chosen = {"where": "disk", "path": "vault"}
    told = server.json("begin", "--dry-run", "--answers", write_answers(server, chosen))
    assert "recovery-key" in {finding["check"] for finding in told["findings"]}
