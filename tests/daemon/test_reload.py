"""What is logged of a config that changed: each key, and no value that may hold a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.config import Config, load_config
from backup.daemon.reload import differences, require_same_place
from backup.errors import ConfigError

TEXT = """
[state]
dir = "state"
[[vault]]
name = "disk"
kind = "directory"
path = "vault"
[[job]]
name = "main"
vault = "disk"
sources = ["/etc"]
schedule = "daily at 02:30"
[job.hooks]
before = ["dump", "--password=old"]
"""


def config(folder: Path, *changes: tuple[str, str]) -> Config:
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = folder / "config.toml"
    path.write_text(text)
    return load_config(str(path))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("02:30", "03:30"), ["job main: schedule: daily at 02:30 -> daily at 03:30"]),
        (("[job.hooks]", 'retry = ["5m"]\n[job.hooks]'), ["job main: retry: [600, 3600, 10800] -> [300]"]),
        (('vault = "disk"', 'vault = "disk"\njitter = "10m"'), ["job main: jitter: 0 -> 600"]),
        (('vault = "disk"', 'vault = "disk"\ncatch_up = "skip"'), ["job main: catch_up: once -> skip"]),
        (('path = "vault"', 'path = "vault"\nprune = "weekly"'), ["vault disk: prune: not set -> weekly"]),
        (("=old", "=new"), ["job main: before changed"]),
        (('["/etc"]', '["/srv"]'), ["job main: sources changed"]),
        (('"main"', '"other"'), ["job main: removed", "job other: new"]),
        (("[[vault]]", "[restore]\nlink = 1024\n[[vault]]"), ["[restore]: link: not set -> 1024"]),
        (("[state]", "[encryption]\nrecipients = []\n[state]"), []),
    ],
)  # fmt: skip
def test_each_change_is_told(tmp_path: Path, change: tuple[str, str], told: list[str]) -> None:
    assert differences(config(tmp_path), config(tmp_path, change)) == told


def test_what_a_process_cannot_change_is_refused(tmp_path: Path) -> None:
    old = config(tmp_path)
    require_same_place(old, config(tmp_path, ("02:30", "03:30")))
    with pytest.raises(ConfigError, match="is another one"):
        require_same_place(old, config(tmp_path, ('dir = "state"', 'dir = "other"')))
