"""What is shown, said, asked and drawn."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from click.testing import Result

from backup.cli.render import progress, render
from backup.cli.render.terminal import TerminalBar
from backup.cli.support.context import Cli


def test_what_is_shown_and_what_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cli = Cli()
    cli.show({"a": 1}, "a is\x1b 1\n")
    cli.show({"a": 1}, render.table(["a"], [[1]]))
    cli.show({"a": 1})
    cli.say("by the way")
    out, err = capsys.readouterr()
    assert [line.strip() for line in out.splitlines()] == ["a is\\x1b 1", "", "a", "1"]
    assert err == "by the way\n"
    quiet = Cli(json=True, quiet=True)
    quiet.show({"a": 1}, "never shown")
    quiet.say("never said")
    quiet.warn("always said")
    assert capsys.readouterr() == ('{"a":1}\n', "always said\n")


def test_progress_fits_its_reader(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = Cli(quiet=True).progress()
    silent.start("x", 1)
    silent.advance(files=1, done=1)
    silent.note("y")
    silent.finish()
    assert capsys.readouterr() == ("", "")
    assert isinstance(Cli().progress(), progress.PlainLines)
    assert isinstance(Cli(json=True).progress(), progress.PlainLines)
    assert isinstance(Cli(json=True, verbose=True).progress(), progress.JsonLines)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert isinstance(Cli().progress(), TerminalBar)


def test_a_question_needs_somebody_to_answer(
    monkeypatch: pytest.MonkeyPatch, try_out: Callable[..., Result]
) -> None:
    result = try_out(lambda cli: cli.confirm("go on?"))
    assert result.exit_code == 2
    assert (
        "there is no terminal for the answer: go on?\n  run it on a terminal, or with --yes\n"
        in result.stderr
    )
    result = try_out(lambda cli: cli.confirm("go on?", option=None))
    assert result.stderr.endswith("  run it on a terminal\n")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda question, err: question == "go on?" and err)
    assert Cli().confirm("go on?")
