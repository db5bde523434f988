"""What the daemon does with open restores: goes on with each, once, and lets none keep the others."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from backup.app.restores import continue_restores
from backup.app.runs import opened
from backup.cli.context import Cli
from backup.config import load_config
from backup.errors import InterruptedRunError
from backup.inventory import retrievals
from backup.inventory.runs import Outcome
from backup.model import KIB, MIB
from backup.restorer.restore import RestoreReport
from tests.doubles import ManualClock
from tests.servers import Server, directory_server
from tests.trees import assert_same_tree


@pytest.fixture
def server(tmp_path: Path) -> Server:
    made = directory_server(tmp_path)
    made.init()
    made.backup()
    return made


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
        ((told, report),) = continue_restores(config, clock=clock, stop=stop)
    assert told == first.id
    assert isinstance(report, RestoreReport)
    assert report.outcome is Outcome.DONE
    ((told, _),) = continue_restores(config, clock=clock, stop=stop)
    assert told == second.id
    assert list(continue_restores(config, clock=clock, stop=stop)) == []
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
        list(continue_restores(config, clock=Stopping(), stop=stop))
    stop.clear()
    clock = ManualClock()
    ((_, report),) = continue_restores(config, clock=clock, stop=stop)
    assert isinstance(report, RestoreReport)
    assert report.outcome is Outcome.DONE
    assert sum(clock.slept) > MIB / (64 * KIB) - 1
    assert_same_tree(Path(f"{tmp_path}/out{server.source}"), server.source)
