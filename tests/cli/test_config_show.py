"""`config show`: what is in force and from where; it reads as a config, and shows no secret."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from backup.cli import main
from backup.config import load_config
from backup.config.in_force import without_secrets
from tests.support.emulated import REPOSITORY

EXAMPLE = re.sub(
    r"^# (\[|[a-z0-9_]+ = )", r"\1", (REPOSITORY / "config.example.toml").read_text(), flags=re.MULTILINE
)
SMALL = """\
[state]
dir = "state"
[[vault]]
name = "disk"
kind = "directory"
path = "vault"
[[job]]
name = "etc"
vault = "disk"
sources = ["/etc"]
timezone = "UTC"
"""


def show(path: Path, text: str, *words: str) -> str:
    path.write_text(text)
    result = CliRunner().invoke(main, ["--config", str(path), "config", "show", *words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_values_and_where_they_come_from(tmp_path: Path) -> None:
    lines = show(tmp_path / "c.toml", SMALL).splitlines()
    assert lines[0] == f"# the settings in force, from {tmp_path}/c.toml"
    assert f'dir = "{tmp_path}/state"' in lines
    assert re.sub(" +", " ", "\n".join(lines)).count('tier = "standard" # default') == 1
    assert 'kind = "directory"' in lines
    assert not any(line.startswith(("bucket", "region")) for line in lines), "another kind's keys"


def test_only_what_the_file_sets(tmp_path: Path) -> None:
    shown = show(tmp_path / "c.toml", SMALL, "--set")
    assert "default" not in shown
    assert "not set" not in shown
    assert "[limits]" not in shown
    assert 'timezone = "UTC"' in shown


@pytest.mark.parametrize("words", [(), ("--set",)])
@pytest.mark.parametrize("text", [SMALL, EXAMPLE], ids=["small", "every key"])
def test_what_it_prints_is_the_same_config(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    shown = show(path, text, *words)
    before = load_config(str(path))
    path.write_text(shown.replace("org/(hidden)", "org/backups-3kq9x").replace("(hidden)", "/run/postgresql"))
    assert load_config(str(path)) == before


def test_secrets_stay_hidden(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    command = (
        '[[job.command]]\nname = "a.dump"\nrun = ["pg_dump"]\nenvironment = { PGPASSWORD = "sesame-1" }\n'
        '[[vault]]\nname = "far"\nkind = "s3"\nregion = "fr-par"\nbucket = "abc"\n'
        'endpoint = "https://s3.example/x?key=sesame-2"\n'
    )
    for words in ((), ("--json",)):
        shown = show(path, SMALL + command, *words)
        assert "sesame" not in shown
        assert "PGPASSWORD" in shown
        assert "https://s3.example/x?(hidden)" in shown


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("smtp_password", "sesame", "(hidden)"),
        ("token", "sesame", "(hidden)"),
        ("passphrase_file", "/etc/words", "/etc/words"),
        ("endpoint", "https://me:sesame@example.org/x", "https://(hidden)@example.org/x"),
        ("url", "https://me:sesame@example.org/topic", "https://(hidden)@example.org/(hidden)"),
        ("url", "sqlite:////var/lib/nightvault/inventory.sqlite", "sqlite:////var/lib/nightvault/inventory.sqlite"),
        ("headers", {"Authorization": "sesame"}, {"Authorization": "(hidden)"}),
        ("channel", [{"password": "sesame", "to": "me"}], [{"password": "(hidden)", "to": "me"}]),
        ("keep_weekly", 8, 8),
        ("exclude", ["*.mp?", "a@b"], ["*.mp?", "a@b"]),
    ],
)  # fmt: skip
def test_what_counts_as_a_secret(name: str, value: Any, shown: Any) -> None:
    assert without_secrets(name, value) == shown


def test_the_document(tmp_path: Path) -> None:
    found = json.loads(show(tmp_path / "c.toml", SMALL, "--json"))
    settings = {setting["key"]: setting for setting in found["settings"]}
    assert settings["vault[1].path"] == {"key": "vault[1].path", "value": f"{tmp_path}/vault", "from": "file"}
    assert settings["vault[1].tier"] == {"key": "vault[1].tier", "value": "standard", "from": "default"}
    assert settings["job[1].forget"]["value"] is None
