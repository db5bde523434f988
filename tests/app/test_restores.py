"""What the daemon does with open restores: goes on with each, once, and lets none keep the others."""

from __future__ import annotations

import os
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from backup.app.base.clock import SystemClock
from backup.app.base.opened import opened
from backup.app.machine.restore_units import RestoreUnits
from backup.cli.support.context import Cli
from backup.config import Config, load_config
from backup.errors import InterruptedRunError, NightvaultError, TargetError
from backup.inventory.records import retrievals
from backup.kinds import Outcome
from backup.model import KIB, MIB
from backup.operations.restores import continue_restores
from backup.protocols import Clock
from backup.restorer.restore import RestoreReport
from tests.support.doubles import ManualClock
from tests.support.servers import Server, directory_server, running_cloud
from tests.support.trees import assert_same_tree


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    made.init()
    made.backup()
    return made


def continued(
    config: Config, *, clock: Clock, stop: threading.Event, **more: Any
) -> list[tuple[str, RestoreReport | NightvaultError]]:
    """The restores of which a step did more than wait, and what came of it."""
    return [(done.restore, done.report) for done in continue_restores(config, clock=clock, stop=stop, **more)]


def test_an_open_restore_is_gone_on_with(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("backup.restorer.restore.advance", cut)
        words = ("restore", "latest", "--key", server.key_file, "--target")
        for name in ("one", "two"):
            assert server.run(*words, tmp_path / name).exit_code == 130
    config = Cli(config_path=str(server.config)).config()
    stop, clock = threading.Event(), ManualClock()
    inventory = opened(config)
    with inventory.reading() as tx:
        second, first = retrievals.list_restores(tx, only_open=True)
    with inventory.locked(f"restore-{second.id}"):  # somebody is at it
        ((told, report),) = continued(config, clock=clock, stop=stop)
    assert told == first.id
    assert isinstance(report, RestoreReport)
    assert report.outcome is Outcome.DONE
    ((told, _),) = continued(config, clock=clock, stop=stop)
    assert told == second.id
    assert list(continued(config, clock=clock, stop=stop)) == []
    inventory.close()
    for name in ("one", "two"):
        assert_same_tree(Path(f"{tmp_path}/{name}{server.source}"), server.source)


def test_a_stop_ends_a_download_that_waits_for_its_turns_and_the_next_sitting_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = directory_server(tmp_path)
    (server.source / "large").write_bytes(os.urandom(MIB))
    server.init()
    server.backup()

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("backup.restorer.restore.advance", cut)
        words = ("restore", "latest", "--key", server.key_file, "--target", tmp_path / "out")
        assert server.run(*words).exit_code == 130
    text, kind = server.config.read_text(), 'kind = "directory"\n'
    server.config.write_text(text.replace(kind, f'{kind}download_limit = "64KiB/s"\n'))
    config, stop = load_config(str(server.config)), threading.Event()

    class Stopping(ManualClock):
        def sleep(self, seconds: float) -> None:
            stop.set()
            super().sleep(seconds)

    with pytest.raises(InterruptedRunError):
        list(continued(config, clock=Stopping(), stop=stop))
    stop.clear()
    clock = ManualClock()
    ((_, report),) = continued(config, clock=clock, stop=stop)
    assert isinstance(report, RestoreReport)
    assert report.outcome is Outcome.DONE
    assert sum(clock.slept) > MIB / (64 * KIB) - 1
    assert_same_tree(Path(f"{tmp_path}/out{server.source}"), server.source)


def begun(server: Server, target: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a restore whose command was cut before it asked for anything."""

    def cut(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("backup.restorer.restore.advance", cut)
        words = ("restore", "latest", "--key", server.key_file, "--target", target)
        assert server.run(*words).exit_code == 130
    return str(server.json("restores")[0]["id"])


def test_one_whose_target_is_another_place_asks_for_nothing_and_is_told_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise what the vault made readable would be paid for each day, and fetched by nobody."""
    restore = begun(server, tmp_path / "out", monkeypatch)
    assert server.json("restores")[0]["held"] is None
    (tmp_path / "out").rename(tmp_path / "disk")
    config, clock = load_config(str(server.config)), ManualClock()
    ((told, error),) = continued(config, clock=clock, stop=threading.Event())
    assert told == restore
    assert isinstance(error, TargetError)
    assert list(continued(config, clock=clock, stop=threading.Event())) == []
    (shown,) = server.json("restores")
    assert (shown["held"], shown["next"]) == (str(error), error.advice)
    assert shown["planned"] == shown["retrievals"] > 0
    assert str(error) in server.done("restores").stderr
    (tmp_path / "disk").rename(tmp_path / "out")
    ((_, report),) = continued(config, clock=clock, stop=threading.Event())
    assert isinstance(report, RestoreReport)
    assert server.json("restores", "--all")[0]["held"] is None
    assert_same_tree(Path(f"{tmp_path}/out{server.source}"), server.source)


def test_one_without_a_mark_waits_for_somebody(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore that an older version began, or that was killed before it could leave one."""
    restore = begun(server, tmp_path / "out", monkeypatch)
    (mark,) = (tmp_path / "out").iterdir()
    mark.unlink()
    assert "does not bear its mark" in server.json("restores")[0]["held"]
    refused = server.run("restore", "resume", restore, "--unattended")
    assert refused.exit_code == 1
    assert "does not bear its mark" in refused.stderr
    server.done("restore", "resume", restore)
    assert_same_tree(Path(f"{tmp_path}/out{server.source}"), server.source)
    assert [path.name for path in (server.state / "restores").iterdir()] == []


def test_unattended_it_is_left_to_who_is_at_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore = begun(server, tmp_path / "out", monkeypatch)
    with (
        closing(opened(load_config(str(server.config)))) as inventory,
        inventory.locked(f"restore-{restore}"),
    ):
        left = server.done("restore", "resume", restore, "--unattended")
    assert "another process" in left.output
    server.done("restore", "resume", restore, "--unattended")
    assert_same_tree(Path(f"{tmp_path}/out{server.source}"), server.source)


SYSTEMD = {"INVOCATION_ID": "0", "RUNTIME_DIRECTORY": "/run/x:/run/nightvault-restores", "PATH": "/programs"}


@pytest.mark.parametrize("lacks", [None, *SYSTEMD])
def test_units_are_for_a_daemon_that_systemd_started_and_lets(
    lacks: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ordinary user's unit is given no directory, and so starts none."""
    monkeypatch.setattr("shutil.which", lambda name, path: f"{path}/{name}" if path == "/programs" else None)
    found = RestoreUnits.of({name: value for name, value in SYSTEMD.items() if name != lacks})
    expected = RestoreUnits("/programs/systemctl", "/run/nightvault-restores")
    assert found == (None if lacks else expected)


def test_a_restore_in_place_has_no_unit(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its unit could write everywhere: that is left to somebody who is there."""
    begun(server, tmp_path / "out", monkeypatch)
    with closing(opened(load_config(str(server.config)))) as inventory, inventory.reading() as tx:
        (one,) = retrievals.list_restores(tx, only_open=True)
    units = RestoreUnits("/bin/true", str(tmp_path))
    units.start(one)
    units.start(one)
    assert (tmp_path / one.id).readlink() == tmp_path / "out"
    units.start(replace(one, target=b"/srv"))
    assert os.readlink(tmp_path / one.id) == "/srv"
    with pytest.raises(TargetError, match="in place"):
        units.start(replace(one, target=b"/"))
    with pytest.raises(TargetError, match="cannot be started"):
        replace(units, systemctl="/nonexistent").start(one)


def test_a_request_that_costs_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its command ended long ago, and nobody watches."""
    with running_cloud(tmp_path) as cloud:
        server = cloud.server(tmp_path / "server", vault="logged")
        server.init()
        server.backup()
        restore = begun(server, tmp_path / "out", monkeypatch)
        config, stop = load_config(str(server.config)), threading.Event()
        for _ in range(2):
            assert list(continued(config, clock=SystemClock(), stop=stop)) == []
    told = [record.message for record in caplog.records if "asked vault" in record.message]
    assert len(told) == 1
    assert told[0].startswith(f"restore {restore}: asked vault cold for ")
