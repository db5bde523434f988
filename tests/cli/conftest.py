"""A command to try the frame with."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

import click
import pytest
from click.testing import CliRunner, Result

from backup.cli import COMMANDS, main
from backup.cli.context import Cli, pass_cli
from backup.cli.grouping import LazyCommand

Body = Callable[[Cli], object]


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
