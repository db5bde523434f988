"""Errors become exit codes and sentences; a traceback goes into a file."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from backup import errors
from backup.cli import main
from backup.cli.support.context import Cli
from backup.errors import ExitCode, NightvaultError


def fail_with(error: BaseException) -> Callable[[Cli], object]:
    def body(_: Cli) -> object:
        raise error

    return body


# Exit codes and sentences.


def every_error() -> list[type[NightvaultError]]:
    found = [NightvaultError]
    for kind in found:
        found.extend(kind.__subclasses__())
    return [kind for kind in found if kind.__module__ == errors.__name__]


@pytest.mark.parametrize("kind", every_error())
def test_each_error_of_ours_is_a_sentence_and_its_code(
    kind: type[NightvaultError], try_out: Callable[..., Result]
) -> None:
    result = try_out(fail_with(kind("the disk is full", advice="buy one")))
    assert result.exit_code == kind.exit_code != 0
    assert result.stderr == "nightvault: the disk is full\n  buy one\n"
    assert result.stdout == ""


def test_the_codes_are_those_of_the_documentation() -> None:
    assert {code.name: int(code) for code in ExitCode} == {
        "DONE": 0, "FAILED": 1, "USAGE": 2, "PARTIAL": 3, "NO_INVENTORY": 10, "LOCKED": 11,
        "RECOVERY_KEY": 12, "IDENTITY": 13, "DENIED": 14, "AWAY": 15, "LIMIT": 16, "WAITING": 17,
        "BEGINS_ANEW": 75, "INTERRUPTED": 130,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("returned", "code"), [(None, 0), (ExitCode.PARTIAL, 3), ("words", 0), (ExitCode.DONE, 0)]
)
def test_what_a_command_returns(returned: object, code: int, try_out: Callable[..., Result]) -> None:
    assert try_out(lambda _: returned).exit_code == code


def test_a_command_may_exit_as_click_does(try_out: Callable[..., Result]) -> None:
    assert try_out(fail_with(click.exceptions.Exit(3))).exit_code == 3


@pytest.mark.parametrize("place", [("--json", "try"), ("try", "--json"), ("deep", "try", "--json")])
def test_with_json_an_error_is_a_document_too(place: tuple[str, ...], try_out: Callable[..., Result]) -> None:
    result = try_out(fail_with(errors.NoInventoryError("there is no inventory in caf\udce9")), *place)
    assert json.loads(result.stdout) == {
        "error": {
            "kind": "no-inventory",
            "message": "there is no inventory in caf\udce9",
            "advice": errors.NoInventoryError.advice,
            "exit_code": 10,
        }
    }
    assert result.stderr.startswith("nightvault: there is no inventory in caf\\xe9\n")
    assert result.exit_code == 10


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["snapshot"], "there is no command 'snapshot'; did you mean snapshots?"),
        (["xyzzy"], "there is no command 'xyzzy'"),
        (["--jsn"], "--jsn"),
        (["try", "--nope"], "--nope"),
        (["try", "extra"], "extra"),
        (["--config"], "--config"),
        (["deep", "nope"], "nope"),
    ],
)
def test_wrong_words_are_code_2_and_point_to_the_help(
    words: list[str], told: str, try_out: Callable[..., Result]
) -> None:
    result = try_out(lambda _: None, *words)
    assert result.exit_code == 2
    assert result.stderr.startswith("nightvault: ")
    assert told in result.stderr
    assert "--help`" in result.stderr
    document = json.loads(try_out(lambda _: None, *words, "--json").stdout)
    assert (document["error"]["kind"], document["error"]["exit_code"]) == ("usage", 2)


def test_no_words_at_all_print_the_help(try_out: Callable[..., Result]) -> None:
    result = CliRunner().invoke(main, [])
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: nightvault")
    assert try_out(lambda _: None, "deep").stderr.startswith("Usage: nightvault deep")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_130(error: BaseException, try_out: Callable[..., Result]) -> None:
    result = try_out(fail_with(error))
    assert result.exit_code == 130
    assert result.stderr.strip() == "nightvault: interrupted"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (
            errno.ENOSPC,
            "nightvault: No space left on device: /x/y\n  free some space there, then run it again\n",
        ),
        (errno.EACCES, "nightvault: Permission denied: /x/y\n  run it as a user who may"),
        (errno.EROFS, "nightvault: Read-only file system: /x/y\n  it lies on"),
        (errno.EMFILE, "nightvault: Too many open files: /x/y\n  raise the limit"),
    ],
)
def test_what_the_machine_refuses_is_a_sentence(
    number: int, told: str, try_out: Callable[..., Result]
) -> None:
    result = try_out(fail_with(OSError(number, os.strerror(number), "/x/y")))
    assert result.exit_code == 1
    assert result.stderr.startswith(told)


def test_memory_that_is_used_up_is_a_sentence(try_out: Callable[..., Result]) -> None:
    result = try_out(fail_with(MemoryError()))
    assert result.exit_code == 1
    assert result.stderr.startswith("nightvault: out of memory\n  raise what limits it")


def test_a_name_that_tricks_terminals_is_escaped_in_an_error(try_out: Callable[..., Result]) -> None:
    result = try_out(fail_with(errors.SourceError("cannot read a\x1b[2Jb")))
    assert result.stderr == "nightvault: cannot read a\\x1b[2Jb\n"


# What nobody foresaw.


def test_the_unforeseen_is_a_sentence_with_the_traceback_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, try_out: Callable[..., Result]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = try_out(fail_with(ZeroDivisionError("division by zero")), "try", "--json")
    (path,) = tmp_path.glob("nightvault-crash-*.log")
    assert result.exit_code == 1
    assert result.stderr == (
        "nightvault: unexpected ZeroDivisionError: division by zero\n"
        f"  this is a bug in nightvault: please report it with {path}\n"
    )
    assert json.loads(result.stdout)["error"]["kind"] == "unexpected"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert text.startswith("nightvault 0.")
    assert "Traceback" in text
    assert "in body" in text


def test_the_traceback_goes_to_the_state_directory_when_that_is_known(
    tmp_path: Path, try_out: Callable[..., Result]
) -> None:
    (tmp_path / "config.toml").write_text('[state]\ndir = "."')

    def body(cli: Cli) -> object:
        cli.config()
        raise RuntimeError("odd")

    try_out(body, "--config", str(tmp_path / "config.toml"), "try")
    assert len(list(tmp_path.glob("nightvault-crash-*.log"))) == 1


def test_where_no_file_can_be_written_the_sentence_stays(
    monkeypatch: pytest.MonkeyPatch, try_out: Callable[..., Result]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    result = try_out(fail_with(RuntimeError("odd")))
    assert result.stderr.endswith("this is a bug in nightvault: please report it\n")


def test_only_verbose_shows_a_traceback(try_out: Callable[..., Result]) -> None:
    error = errors.VaultError("refused")
    assert "Traceback" not in try_out(fail_with(error)).stderr
    assert "Traceback" in try_out(fail_with(error), "try", "-v").stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("can't start new thread"), "no more threads"),
        (BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"), "ulimit -u"),
        (OSError(errno.EFBIG, "File too large", "/a"), "ulimit -f"),
    ],
)
def test_limits_of_the_system_are_no_mistake_of_ours(
    error: Exception, words: str, try_out: Callable[..., Result]
) -> None:
    result = try_out(fail_with(error))
    assert result.exit_code == 1
    assert words in result.stderr
    assert "report it" not in result.stderr


@pytest.mark.parametrize(
    ("words", "page"),
    [
        (("restore", "latest", "--target"), "nightvault restore --help"),
        (("--json", "forget", "--keep-daily"), "nightvault forget --help"),
        (("--config",), "nightvault --help"),
    ],
)
def test_an_option_that_lacks_its_value_leads_to_its_command(words: tuple[str, ...], page: str) -> None:
    result = CliRunner().invoke(main, [*words])
    assert result.exit_code == 2
    assert f"see `{page}`" in result.stderr
