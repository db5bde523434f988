"""What nightvault itself uses is left out of sources: those of new jobs, and where `exclude_own` says so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup.model import MIB
from tests.support.servers import Server, directory_server


@pytest.fixture(params=["plain", "[odd] *name! "])
def above(request: pytest.FixtureRequest, tmp_path: Path) -> Server:
    """A server whose job saves the folder that holds its source, its state and its vault."""
    server = directory_server(tmp_path / request.param)
    server.init()
    saves(server, server.folder)
    return server


def saves(server: Server, *sources: Path) -> None:
    """Let the job have these sources."""
    listed = ", ".join(f'"{source}"' for source in sources)
    text = server.config.read_text()
    before, _, rest = text.partition("sources = [")
    after = rest.partition('"]')[2]
    server.config.write_text(f"{before}sources = [{listed}]{after}")


def says(server: Server, value: str) -> None:
    """Let the job, which is last in the file, say what becomes of nightvault's own."""
    with server.config.open("a") as file:
        file.write(f"exclude_own = {value}\n")


def saved(server: Server) -> set[str]:
    """The names at the top of the newest snapshot's folder, and of the state directory if it has that."""
    entries = server.json("ls", "-r", f"latest:{server.folder}")
    return {str(Path(entry["path"]).relative_to(server.folder)) for entry in entries}


def test_a_new_job_leaves_out_state_and_vault(above: Server) -> None:
    above.backup()
    first = saved(above)
    assert above.source.name in first
    assert not {name.split("/")[0] for name in first} & {"state", "vault"}
    said = above.done("backup")
    assert "backs up" not in said.stderr
    assert saved(above) == first, "the second night is as the first"
    listed = above.done("backup", "--dry-run", "--list").stdout
    for place in (above.state, above.folder / "vault"):
        assert f"left out {place}  (own: nightvault itself uses it)" in listed


def test_a_job_that_saved_them_goes_on_and_is_told(above: Server) -> None:
    says(above, "false")
    (above.state / "large").write_bytes(os.urandom(3 * MIB))
    assert "backs up" not in above.done("backup").stderr, "it was said to be meant"
    text = above.config.read_text()
    above.config.write_text(text.replace("exclude_own = false\n", ""))
    before = saved(above)
    assert {"state/inventory.sqlite", "vault"} <= before
    assert not [name for name in before if name.startswith("state/spool")]
    told = above.run("backup")
    assert told.exit_code == 0
    for words in (
        f"backs up the state directory {above.state}: ",
        f"backs up vault cold, {above.folder / 'vault'} in its source {above.folder}: ",
    ):
        assert words in " ".join(told.stderr.split())
        assert words in " ".join(above.done("config", "check").stderr.split())
        assert words in " ".join(above.run("doctor", "--offline").stdout.split())
    assert {"state/inventory.sqlite", "vault"} <= saved(above), "it keeps what it had"
    assert f"left out {above.state}  (own" not in above.done("backup", "--dry-run", "--list").stdout
    says(above, "true")
    last = above.done("backup").stderr
    assert "backs up" not in last
    assert "lost nearly everything" not in last, "what is left out is no loss"
    assert not {name.split("/")[0] for name in saved(above)} & {"state", "vault"}


def test_a_source_that_names_them_or_lies_within_saves_them(server: Server) -> None:
    saves(server, server.folder, server.folder / "vault", server.state / "keys")
    server.backup()
    found = saved(server)
    assert {"vault", "state/keys/signer"} <= found
    assert "state/inventory.sqlite" not in found
    assert "backs up" not in server.run("backup").stderr
    assert "state/inventory.sqlite" not in saved(server), "as in the first night"


def test_they_are_known_by_whichever_way_a_source_takes(server: Server, tmp_path: Path) -> None:
    """A place is what it leads to, not how it is written."""
    (tmp_path / "way").symlink_to(server.folder)
    saves(server, tmp_path / "way" / ".")
    server.backup()
    assert not {name.split("/")[0] for name in saved(server)} & {"state", "vault"}


def test_the_vault_of_another_job_is_saved(server: Server, tmp_path: Path) -> None:
    """A second copy of a vault is a backup like any other."""
    other = tmp_path / "another vault"
    text = server.config.read_text()
    server.config.write_text(
        f'{text}\n[[vault]]\nname = "far"\nkind = "directory"\npath = "{other}"\n'
        f'[[job]]\nname = "copy"\nvault = "far"\nsources = ["{server.folder / "vault"}"]\n'
    )
    server.init()
    server.done("backup", "main")
    told = server.done("backup", "copy").stderr
    assert "backs up" not in told
    shown = server.json("ls", "-r", "--job", "copy", f"latest:{server.folder / 'vault'}")
    assert any("archives" in entry["path"] for entry in shown)


def words_of(server: Server) -> list[str]:
    """What a backup, `config check` and `doctor` say."""
    results = [server.run("backup"), server.done("config", "check"), server.run("doctor", "--offline")]
    return [" ".join((done.stderr + done.stdout).split()) for done in results]


@pytest.mark.parametrize("value", ["", "true"])
def test_a_source_that_is_the_vault_or_the_state_is_told_at_each_run(server: Server, value: str) -> None:
    linked = server.folder / "way"
    vault, state = linked / "vault", linked / server.state.name
    server.backup()
    linked.symlink_to(server.folder)
    saves(server, server.source, vault, vault / "archives", state)
    (vault / "archives").mkdir(exist_ok=True)
    if value:
        says(server, value)
    end = "that job main is stored into: each run stores what the one before stored; name another source"
    for text in (*words_of(server), words_of(server)[0]):
        assert f"source {vault} is the vault {end}" in text
        assert f"source {vault}/archives lies in the vault {end}" in text
        assert f"source {state} of job main is the state directory: " in text
        assert f"source {server.source} " not in text


def test_a_source_that_is_the_vault_is_meant_where_the_job_says_so(server: Server) -> None:
    saves(server, server.folder / "vault", server.state)
    says(server, "false")
    for text in words_of(server):
        assert "name another source" not in text


@pytest.mark.parametrize(
    ("state", "vault", "told"),
    [
        (
            "vault/state",
            "vault",
            "the state directory ({top}/vault/state) lies in vault cold ({top}/vault): ",
        ),
        ("state", "state/in", "vault cold ({top}/state/in) lies in the state directory ({top}/state): "),
        ("vault", "link", "the state directory and vault cold are one directory, {top}/vault: "),
        ("state", "other/in", "vault cold ({top}/other/in) lies in vault other ({top}/other): "),
        ("state", "other2", None),
    ],
)
def test_state_and_vaults_in_each_other_are_told(
    tmp_path: Path, state: str, vault: str, told: str | None
) -> None:
    server = directory_server(tmp_path / "server")
    top = server.folder
    (top / "vault").mkdir(exist_ok=True)
    (top / "link").symlink_to("vault")
    text = server.config.read_text().replace(f'"{top}/state"', f'"{top}/{state}"')
    text = text.replace(f'path = "{top}/vault"', f'path = "{top}/{vault}"')
    other = f'[[vault]]\nname = "other"\nkind = "directory"\npath = "{top}/other"\n'
    server.config.write_text(other + text)
    said = [server.done("config", "check").stderr, server.run("doctor", "--offline").stdout]
    for words in (" ".join(line.split()) for line in said):
        assert (told is not None) == ("give each a directory of its own" in words)
        assert told is None or told.format(top=top) in words
