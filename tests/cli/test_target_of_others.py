"""Root restores to where another user can change the way: said, asked, and never led astray afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.servers import Cloud, HurryingClock, Server, running_cloud
from tests.support.trees import assert_same_tree

MALLORY = 4242
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes other users' directories")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory of another user."""
    place = tmp_path / "mallory"
    place.mkdir()
    os.chown(place, MALLORY, MALLORY)
    return place


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made


def restoring(server: Server, target: Path, *more: str) -> tuple[object, ...]:
    return ("restore", "latest", "--target", target, "--key", server.key_file, *more)


def test_nobody_says_yes(server: Server, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.backup()
    told = server.fails(2, *restoring(server, home / "restored"))
    assert f"{home} belongs to {MALLORY}" in told
    assert "--yes" in told
    monkeypatch.setattr("backup.cli.support.context.Cli.can_ask", True)
    told = server.fails(2, *restoring(server, home / "restored"), typed="n\n")
    assert f"restore to {home}/restored all the same?" in told
    assert list(home.iterdir()) == []
    assert server.json("restores", "--all") == []


@pytest.mark.parametrize("how", ["typed", "option"])
def test_somebody_says_yes(server: Server, home: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server.backup()
    if how == "typed":
        monkeypatch.setattr("backup.cli.support.context.Cli.can_ask", True)
        server.done(*restoring(server, home / "restored"), typed="y\n")
    else:
        done = server.done(*restoring(server, home / "restored", "--yes"))
        assert f"{home} belongs to {MALLORY}" in done.stderr, "it is said all the same"
    assert_same_tree(home / "restored" / str(server.source).lstrip("/"), server.source)


def test_a_way_that_nobody_else_can_change_is_not_asked_about(server: Server, tmp_path: Path) -> None:
    """A link of root's own, and a directory like `/tmp`."""
    server.backup()
    shared = tmp_path / "tmp"
    shared.mkdir()
    shared.chmod(0o1777)
    (tmp_path / "link").symlink_to(shared)
    done = server.done(*restoring(server, tmp_path / "link" / "restored"))
    assert "belongs to" not in done.output
    assert "may write to" not in done.output
    assert_same_tree(shared / "restored" / str(server.source).lstrip("/"), server.source)


def test_a_link_of_another_user_is_refused(server: Server, home: Path, tmp_path: Path) -> None:
    """Even with a yes: whoever made it chose where root would write."""
    server.backup()
    victim = tmp_path / "etc"
    victim.mkdir()
    (home / "restored").symlink_to(victim)
    os.chown(home / "restored", MALLORY, MALLORY, follow_symlinks=False)
    for words in ((), ("--dry-run",)):
        told = server.fails(1, *restoring(server, home / "restored", "--yes", *words))
        assert f"{home}/restored is a symlink of {MALLORY}" in told
    assert list(victim.iterdir()) == []


@pytest.mark.parametrize("again", ["command", "resume", "unattended", "stays"])
def test_a_target_that_is_swapped_while_a_cold_vault_takes_its_hours(
    cloud: Cloud, tmp_path: Path, home: Path, again: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = cloud.server(tmp_path, vault=f"swapped-{again}", clock=HurryingClock(cloud.emulator))
    server.init()
    server.backup()
    victim, target = tmp_path / "etc", home / "restored"
    victim.mkdir()
    (victim / "passwd").write_text("root")

    def swap() -> None:
        if not target.is_symlink():
            target.rename(home / "moved")
            target.symlink_to(victim)
            os.chown(target, MALLORY, MALLORY, follow_symlinks=False)

    words = restoring(server, target, "--yes")
    if again == "stays":
        sleeping = HurryingClock.sleep

        def meanwhile(clock: HurryingClock, seconds: float) -> None:
            swap()
            sleeping(clock, seconds)

        monkeypatch.setattr(HurryingClock, "sleep", meanwhile)
        told = server.fails(1, *words, "--wait")
    else:
        server.waits(*words)
        (restore,) = server.json("restores")
        swap()
        cloud.emulator.advance(6 * 3600)
        resume = ("restore", "resume", restore["id"])
        then = {"command": words, "resume": resume, "unattended": (*resume, "--unattended")}
        told = server.fails(1, *then[again])
    assert str(target) in told
    assert [path.name for path in victim.iterdir()] == ["passwd"]
    (restore,) = server.json("restores")
    assert restore["held"], "the daemon leaves it alone, and says so"
    server.done("restore", "cancel", restore["id"])
    assert [path.name for path in victim.iterdir()] == ["passwd"]
