"""docs/containers.md: an engine runs its commands; what they give the image is what that takes."""

from __future__ import annotations

import re
import shlex

from tests.pages.page import SHOWN, blocks_of
from tests.support.command_line import parsed
from tests.support.container_files import instructions_of, words_of
from tests.support.emulated import REPOSITORY

DAEMON = REPOSITORY / "deploy" / "daemon.Containerfile"
PAGE = REPOSITORY / "docs" / "containers.md"


def lines_of_page() -> list[str]:
    blocks = [block.text for block in blocks_of(PAGE) if block.language == SHOWN]
    assert len(blocks) == len(blocks_of(PAGE))
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
    (inside,) = (shlex.split(line) for line in lines_of_page() if line.startswith("podman exec"))
    parsed(inside[4:])
