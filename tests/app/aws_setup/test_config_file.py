"""ARNs put into a config: comments, order and everything else stay."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest

from backup.app.aws_setup.config_file import replace_config, with_values
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
    assert {one.stat().st_mode & 0o777 for one in (path, Path(copy))} == {0o640}
