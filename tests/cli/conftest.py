"""What tests of commands share: a server, a command to try the frame with, and a machine that gets keys."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from click.testing import CliRunner, Result

from backup.cli import COMMANDS, main
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.grouping import LazyCommand
from tests.cli.helper_world import World, made_world
from tests.support.servers import Server, directory_server

Body = Callable[[Cli], object]


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A server with a directory vault and its keys; many files of tests have another."""
    made = directory_server(tmp_path)
    made.init()
    return made


@pytest.fixture
def try_out(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run words with a command `try` (in a group: `deep try`) whose body is given."""

    def run(body: Body, *words: str) -> Result:
        module = ModuleType("tried")

        @click.command("try")
        @pass_cli
        def tried(cli: Cli) -> object:
            return body(cli)

        deep = click.Group("deep", commands=[tried])
        vars(module).update(tried=tried, deep=deep)
        monkeypatch.setitem(sys.modules, "tried", module)
        monkeypatch.setitem(COMMANDS, "try", LazyCommand("tried:tried", "Try."))
        monkeypatch.setitem(COMMANDS, "deep", LazyCommand("tried:deep", "Deeper."))
        return CliRunner().invoke(main, list(words) or ["try"])

    return run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An emulator, an authority, an identity that it issued, and a home without a config."""
    with made_world(tmp_path_factory.mktemp("helper")) as made:
        yield made
