"""docs/containers.md: an engine runs its commands; what they give the image is what that takes."""

from __future__ import annotations

import re
import shlex
import tomllib
from datetime import UTC, datetime
from pathlib import Path

from backup.config import config_of
from backup.containers.api import Container
from backup.containers.labels import WORDS, is_stopped, reads_volumes
from tests.pages.page import SHOWN, blocks_of
from tests.support.command_line import parsed
from tests.support.container_files import instructions_of, words_of
from tests.support.emulated import REPOSITORY

DAEMON = REPOSITORY / "deploy" / "daemon.Containerfile"
PAGE = REPOSITORY / "docs" / "containers.md"


def lines_of_page() -> list[str]:
    blocks = [block.text for block in blocks_of(PAGE) if block.language == SHOWN]
    assert [block.language for block in blocks_of(PAGE) if block.language != SHOWN] == ["toml", "yaml"]
    joined = re.sub(r"\\\n\s*", "", "".join(blocks))
    return [line[2:] for line in joined.splitlines()]


def test_the_commands_of_the_page_are_commands_of_ours() -> None:
    """What stands behind the image's name is what the entry point gets."""
    runs = [shlex.split(line) for line in lines_of_page() if line.startswith(("podman run", "docker run"))]
    assert len(runs) == 4
    for words in runs:
        image = max(place for place, word in enumerate(words) if word == "nightvault")
        parsed(words[image + 1 :] or words_of(dict(instructions_of(DAEMON))["CMD"]))
        mounts = [words[place + 1] for place, word in enumerate(words) if word == "-v"]
        assert any(mount.split(":")[1] == dict(instructions_of(DAEMON))["VOLUME"] for mount in mounts)
        assert "--cap-drop=ALL" in words
    for line in lines_of_page():
        if line.startswith("nightvault"):
            parsed(shlex.split(line, comments=True)[1:])
    (inside,) = (shlex.split(line) for line in lines_of_page() if line.startswith("podman exec"))
    parsed(inside[4:])


def test_its_config_is_one_and_its_labels_are_those_that_are_understood(tmp_path: Path) -> None:
    (written,) = (block.text for block in blocks_of(PAGE) if block.language == "toml")
    vault = '[[vault]]\nname = "cold"\nkind = "directory"\npath = "/mnt/cold"\n'
    (job,) = config_of(tomllib.loads(vault + written), str(tmp_path / "config.toml")).jobs
    assert job.containers is not None
    (compose,) = (block.text for block in blocks_of(PAGE) if block.language == "yaml")
    words = dict(re.findall(r'(nightvault\.\w+): "(\w+)"', compose))
    container = Container("1", "db", words, [], True, datetime.now(UTC), datetime.now(UTC), 10, "", False)
    assert reads_volumes(words, job.name)
    assert is_stopped(container, job.name)
    table = PAGE.read_text().partition("### Labels")[2].partition("###")[0]
    for names in WORDS:
        for name in names:
            shown = name if name in table else f"-{name.rpartition('-')[2]}"
            assert f"`{shown}`" in table, name
