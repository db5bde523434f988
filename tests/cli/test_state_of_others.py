"""A state directory of somebody else: what is planted in it is not used, and what holds is used as before."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from backup.app.base.state import State
from backup.errors import StateDeniedError
from backup.files import file_lock
from backup.owners import held_directory, make_private
from backup.restorer.pack_keys import PackKeyFile
from tests.support.servers import Server, directory_server
from tests.support.users import NOBODY

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return directory_server(tmp_path / "server")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A directory of the system's, which a link of another user leads to."""
    path = tmp_path / "usr-lib"
    path.mkdir()
    path.chmod(0o755)
    return path


def init(server: Server) -> tuple[str, ...]:
    return ("init", "--non-interactive", "--key-file", str(server.key_file))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def link_of_nobody(path: Path, target: Path) -> None:
    path.symlink_to(target)
    os.chown(path, NOBODY, NOBODY, follow_symlinks=False)


def test_one_that_another_user_made_is_not_begun(server: Server, elsewhere: Path) -> None:
    server.state.mkdir(mode=0o755)
    link_of_nobody(server.state / "spool", elsewhere)
    os.chown(server.state, NOBODY, NOBODY)
    said = server.fails(1, *init(server))
    assert "it belongs to nobody, and holds no inventory yet" in said
    assert f"chown root {server.state}" in said
    assert mode_of(elsewhere) == 0o755
    assert os.listdir(server.state) == ["spool"]
    assert server.run("snapshots").exit_code == 10  # who only looks is told what is there: nothing


@pytest.mark.parametrize("name", ["spool", "restores", "keys"])
def test_a_link_of_another_in_one_of_ours(server: Server, elsewhere: Path, name: str) -> None:
    server.state.mkdir(mode=0o700)
    link_of_nobody(server.state / name, elsewhere)
    said = server.fails(1, *init(server))
    assert f"{server.state / name} is not used: {server.state / name} belongs to nobody" in said
    assert mode_of(elsewhere) == 0o755
    assert os.listdir(elsewhere) == []


def test_a_directory_of_another_in_one_of_ours(server: Server) -> None:
    (server.state / "keys").mkdir(parents=True)
    server.state.chmod(0o700)
    os.chown(server.state / "keys", NOBODY, 0)
    assert "belongs to nobody" in server.fails(1, *init(server))


def test_links_of_our_own_are_followed_and_what_they_lead_to_keeps_its_mode(
    server: Server, elsewhere: Path
) -> None:
    server.state.mkdir(mode=0o700)
    (server.state / "spool").symlink_to(elsewhere)
    server.done(*init(server))
    assert server.backup()["outcome"] == "done"
    assert mode_of(elsewhere) == 0o755
    elsewhere.chmod(0o777)
    with pytest.raises(StateDeniedError, match="every user may write to"):
        State(str(server.state)).create()


def test_the_state_directory_as_a_link(server: Server, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir(mode=0o700)
    server.state.symlink_to(real)
    server.done(*init(server))
    server.done("backup")
    os.chown(server.state, NOBODY, NOBODY, follow_symlinks=False)
    said = server.fails(1, "backup")
    assert f"{server.state} belongs to nobody" in said
    assert f"chown -h root {server.state}" in said


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o722])
def test_one_that_others_may_write_is_refused_until_it_is_mended(server: Server, mode: int) -> None:
    server.state.mkdir()
    server.state.chmod(mode)
    assert "every user may write to" in server.fails(1, *init(server))
    server.state.chmod(0o700)
    server.done(*init(server))
    server.state.chmod(mode)
    for words in (("backup",), ("status",), ("snapshots",)):
        said = server.fails(1, *words)
        assert f"chmod go-w {server.state}" in said
    checks = {finding["check"] for finding in server.json("doctor", "--offline", exit_code=1)["findings"]}
    assert {"mode", "state"} <= checks
    server.run("doctor", "--offline", "--fix")
    assert mode_of(server.state) == 0o700
    server.done("backup")


def test_an_installation_of_another_user_is_used_by_root(server: Server) -> None:
    server.done(*init(server))
    for path in (server.state, *server.state.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    server.done("snapshots")
    server.done("backup")
    State(str(server.state)).create()
    os.chown(server.state, NOBODY, 0)
    server.state.chmod(0o770)  # root's group alone: nobody else
    server.done("snapshots")
    server.state.chmod(0o702)
    assert "every user may write to" in server.fails(1, "backup")
    server.state.chmod(0o700)
    link = server.state / "keys"
    link.rename(server.state / "real-keys")
    link_of_nobody(link, server.state / "real-keys")
    with pytest.raises(StateDeniedError, match="keys is not used"):
        State(str(server.state)).write_recipients(())


def test_a_renewed_key_is_written_into_no_directory_of_others(server: Server) -> None:
    with server.config.open("a") as config:
        config.write('[identity]\ncertificate = "c.pem"\nprivate_key = "c.key"\n')
        config.write('[identity.renew]\ncommand = ["/bin/false"]\n')
    server.state.mkdir(mode=0o755)
    os.chown(server.state, NOBODY, NOBODY)
    assert "it belongs to nobody" in server.fails(1, "identity", "renew", "--force")
    assert os.listdir(server.state) == []


def test_keys_of_packs_go_through_no_link_of_others(tmp_path: Path, elsewhere: Path) -> None:
    link_of_nobody(tmp_path / "restores", elsewhere)
    with pytest.raises(StateDeniedError, match="belongs to nobody"):
        PackKeyFile(str(tmp_path / "restores"), "r1").write({1: bytes(32)})
    assert os.listdir(elsewhere) == []
    assert mode_of(elsewhere) == 0o755
    PackKeyFile(str(elsewhere), "r1").write({1: bytes(32)})
    assert mode_of(elsewhere) == 0o700
    assert PackKeyFile(str(elsewhere), "r1").read() == {1: bytes(32)}


def test_a_directory_is_closed_by_its_handle(tmp_path: Path, elsewhere: Path) -> None:
    elsewhere.chmod(0o777)
    make_private(str(elsewhere))
    assert mode_of(elsewhere) == 0o700
    with held_directory(str(elsewhere)) as handle:
        make_private(str(elsewhere / "new"), handle)
    assert mode_of(elsewhere / "new") == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_private(str(tmp_path / "file"))


def test_a_lock_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "a.lock").symlink_to(tmp_path / "made")
    with pytest.raises(OSError, match="symbolic links"):
        file_lock(str(tmp_path / "a.lock"))
    assert not (tmp_path / "made").exists()
