"""ARNs put into a config: comments, order and everything else stay."""

from __future__ import annotations

import os
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.app.aws_setup.config_file import check_writable, read_config, replace_config, with_values
from backup.errors import ConfigError

TEXT = """\
# our server
[state]
dir = "/var/lib/nightvault"   # on the SSD

[[vault]]
name = "disk"
kind = "directory"

[[vault]] # the cold one
name = "cold"
kind = "glacier"
role_arn = "old" # by hand

[[job]]
name = "etc"
sources = [
  "/etc", # all of it
]
"""
NEW = {"role_arn": "new", "prune_role_arn": "pruner"}
ANYWHERE = {"region": "eu-central-1", "trust_anchor_arn": "anchor"}


def test_only_what_is_new_changes() -> None:
    changed = with_values(TEXT, "cold", NEW, ANYWHERE)
    document = tomllib.loads(changed)
    assert document["vault"][1] == {"name": "cold", "kind": "glacier", **NEW}
    assert document["vault"][0] == {"name": "disk", "kind": "directory"}
    assert document["roles_anywhere"] == ANYWHERE
    kept = [line for line in TEXT.splitlines() if "role_arn" not in line]
    assert [line for line in changed.splitlines() if line in kept and line] == [line for line in kept if line]
    assert "# by hand" in changed
    assert with_values(changed, "cold", NEW, ANYWHERE) == changed


def test_a_section_that_is_there_keeps_its_other_keys() -> None:
    text = TEXT + '\n[roles_anywhere]\nregion = "x" # ours\nsession_duration = 900\n'
    document = tomllib.loads(with_values(text, "cold", {}, ANYWHERE))
    assert document["roles_anywhere"] == {**ANYWHERE, "session_duration": 900}


def test_no_such_vault() -> None:
    with pytest.raises(ConfigError, match="warm"):
        with_values(TEXT, "warm", NEW, ANYWHERE)


def test_the_old_one_is_kept_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("old")
    path.chmod(0o640)
    now = datetime(2026, 3, 1, 2, 3, 4, tzinfo=UTC)
    assert replace_config(str(path), "old", "old", now) is None
    copy = replace_config(str(path), "old", "new", now)
    assert copy == f"{path}.20260301T020304"
    assert (Path(copy).read_text(), path.read_text()) == ("old", "new")
    assert {file.stat().st_mode & 0o777 for file in (path, Path(copy))} == {0o640}


NOW = datetime(2026, 3, 1, 2, 3, 4, tzinfo=UTC)


def test_a_comment_about_what_comes_next_stays_there() -> None:
    text = '[[vault]]\nname = "cold"\n\n# the big one\n[[job]]\nname = "etc"\n'
    assert with_values(text, "cold", {"role_arn": "new"}, {}) == text.replace(
        '"cold"\n', '"cold"\nrole_arn = "new"\n'
    )


@pytest.mark.parametrize(
    "text",
    [
        '[[vault]]\nname = "warm"\n\n[[job]]\nname = "etc"\n\n[[vault]]\nname = "cold"\n',
        '[[vault]]\nname = "cold"\n# more\n[vault.more]\nx = 1\n\n# a job\n[[job]]\nname = "etc"\n',
        'roles_anywhere = { region = "x" }\n[[vault]]\nname = "cold"',
        'roles_anywhere.region = "x"\n[[vault]]\nname = "cold"\n# the end',
        '[[vault]]\r\nname = "cold"\r\n# c\r\n[[job]]\r\nname = "etc"\r\n',
    ],
)
def test_every_way_to_write_it(text: str) -> None:
    """The text says what it said, and the new keys; its lines end as they did."""
    changed = with_values(text, "cold", NEW, ANYWHERE)
    wanted = tomllib.loads(text)
    next(table for table in wanted["vault"] if table["name"] == "cold").update(NEW)
    wanted.setdefault("roles_anywhere", {}).update(ANYWHERE)
    assert tomllib.loads(changed) == wanted
    assert set(text.splitlines()) - set(changed.splitlines()) <= {text.splitlines()[0]}
    if "\r" in text:
        assert changed.count("\r\n") == changed.count("\n")


def test_a_link_stays_one(tmp_path: Path) -> None:
    """What it leads to is changed, and its copy lies there."""
    real = tmp_path / "real" / "config.toml"
    real.parent.mkdir()
    real.write_bytes(b"old\r\n")
    real.chmod(0o600)
    link = tmp_path / "config.toml"
    link.symlink_to(real)
    assert read_config(str(link)) == "old\r\n"
    copy = replace_config(str(link), "old\r\n", "new", NOW)
    assert link.is_symlink()
    assert (real.read_text(), real.stat().st_mode & 0o777) == ("new", 0o600)
    assert copy is not None
    assert Path(copy).parent == real.parent


def test_two_changes_in_a_second_keep_both_old_ones(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("1")
    copies = [replace_config(str(path), str(n), str(n + 1), NOW) for n in (1, 2)]
    assert [Path(str(copy)).read_text() for copy in copies] == ["1", "2"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_the_owner_stays(tmp_path: Path) -> None:
    """The daemon of another user goes on reading a config that root sets up."""
    path = tmp_path / "config.toml"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    copy = replace_config(str(path), "old", "new", NOW)
    for file in (path, Path(str(copy))):
        assert (file.stat().st_uid, file.stat().st_gid) == (1234, 2345)


def test_no_place_for_them_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "config.toml"
    path.write_text("old")
    check_writable(str(path))
    monkeypatch.setattr(os, "access", lambda *_words, **_more: False)
    with pytest.raises(ConfigError, match="is not writable"):
        check_writable(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(str(tmp_path / "none"))
