"""What the daemon does with open restores: goes on with each, once, and lets none keep the others."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from backup.app.restores import continue_restores
from backup.app.runs import opened
from backup.cli.context import Cli
from backup.inventory import retrievals
from backup.inventory.runs import Outcome
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
