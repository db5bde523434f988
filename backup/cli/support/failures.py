"""Turns errors into exit codes and messages; the only place that does."""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType

import click

from backup import __version__
from backup.cli.support.context import Cli
from backup.cli.support.stopping import ending_signals
from backup.errors import ExitCode, NightvaultError, UsageError
from backup.log_context import about

_MACHINE_ADVICE = {
    errno.ENOSPC: "free some space there, then run it again",
    errno.EDQUOT: "free some space there, then run it again",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f, LimitFSIZE)",
    errno.EAGAIN: "raise the limit of processes and threads (ulimit -u, TasksMax)",
    errno.EROFS: "it lies on a file system that is mounted read-only",
    errno.EACCES: "run it as a user who may, or change the permissions",
    errno.EPERM: "run it as a user who may, or change the permissions",
    errno.EIO: "the disk reports an I/O error: see the system's log",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENAMETOOLONG: "no file can have such a name",
    errno.ELOOP: "its symlinks lead in a circle",
    errno.ENOTDIR: "something on the way to it is no directory",
    errno.EISDIR: "it is a directory, and a file is needed",
    errno.ENOENT: "it does not exist: check the spelling",
    errno.ENOTCONN: "the file system there is gone: mount it again",
    errno.ESTALE: "the file system there is gone: mount it again",
}
_MEMORY_ADVICE = "raise what limits it (ulimit -v, MemoryMax), lower limits.memory, or restore part by part"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is shown; `kind` is a stable word for scripts."""

    kind: str
    message: str
    advice: str
    exit_code: int


def run_to_exit_code(run: Callable[[], object], cli: Cli, words: Sequence[str]) -> int:
    """Run a command; return the exit code: the number that it returns (0 for none), or its error's."""
    try:
        with _signals_interrupt(), about():
            result = run()
            sys.stdout.flush()
    except BrokenPipeError:
        _give_up_stdout()  # the reader has gone: nobody to tell
        return ExitCode.FAILED
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  every error ends here
        return _tell_failure(error, cli, words)
    return result if isinstance(result, int) else ExitCode.DONE


def failure_of(error: BaseException, words: Sequence[str] = ()) -> Failure | None:
    """Return the failure to show for an error; None for an unexpected one. `words` are the command line."""
    if isinstance(error, NightvaultError):
        return Failure(error.kind, str(error), error.advice, int(error.exit_code))
    if isinstance(error, click.UsageError):
        from backup.cli.support.foreign_words import what_to_do

        path = error.ctx.command_path if error.ctx else _command_in(words)
        message = _message_of(error)
        meant = what_to_do(words, message)
        advice = f"{meant}; see `{path} --help`" if meant else f"see `{path} --help`"
        return Failure("usage", message, advice, int(ExitCode.USAGE))
    if isinstance(error, click.ClickException):
        return Failure("failed", error.format_message(), "", error.exit_code)
    if isinstance(error, (KeyboardInterrupt, click.Abort)):
        return Failure("interrupted", "interrupted", "", int(ExitCode.INTERRUPTED))
    if isinstance(error, OSError) and error.errno in _MACHINE_ADVICE:
        on_what = f": {os.fsdecode(error.filename)}" if isinstance(error.filename, (str, bytes)) else ""
        sentence = f"{error.strerror}{on_what}"
        return Failure("machine", sentence, _MACHINE_ADVICE[error.errno], int(ExitCode.FAILED))
    if isinstance(error, MemoryError):
        return Failure("machine", "out of memory", _MEMORY_ADVICE, int(ExitCode.FAILED))
    if isinstance(error, RuntimeError) and "start new thread" in str(error):  # CPython has no class for it
        sentence = "the system lets this user start no more threads"
        return Failure("machine", sentence, _MACHINE_ADVICE[errno.EAGAIN], int(ExitCode.FAILED))
    return None


def _message_of(error: click.UsageError) -> str:
    """Click's sentence; of the options it proposes, none that is alike by its dashes alone."""
    if isinstance(error, click.NoSuchOption):
        import difflib

        names = [name.lstrip("-") for name in error.possibilities or ()]
        near = difflib.get_close_matches(error.option_name.lstrip("-"), names, cutoff=0.7)
        return error.message + (f" Did you mean {' or '.join(f'--{name}' for name in near)}?" if near else "")
    return error.format_message()


def worst_of(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the exit code for several results: the first failure's, else PARTIAL, else WAITING."""
    some = list(codes)
    mild = (ExitCode.PARTIAL, ExitCode.WAITING, ExitCode.DONE)
    failures = [code for code in some if code not in mild]
    return failures[0] if failures else next((code for code in mild if code in some), ExitCode.DONE)


def write_crash(error: BaseException, words: Sequence[str], directory: str | None) -> str | None:
    """Write the traceback of an unexpected error to a file of mode 0600; return its path, None on failure.

    The file contains no values of variables.
    """
    import platform
    import tempfile
    import traceback

    text = "".join(
        [
            f"nightvault {__version__}, Python {platform.python_version()}, {platform.platform()}\n",
            f"command: {' '.join(words[:2])}\n",
            *traceback.format_exception(error),
        ]
    )
    for place in (directory, tempfile.gettempdir()):
        try:
            descriptor, path = tempfile.mkstemp(prefix="nightvault-crash-", suffix=".log", dir=place)
        except (OSError, TypeError):
            continue
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return path
    return None


def _tell_failure(error: BaseException, cli: Cli, words: Sequence[str]) -> int:
    failure = failure_of(error, words)
    if failure is not None and isinstance(error, OSError) and _is_of_printing(error):
        sentence = f"standard output cannot be written: {failure.message}"
        failure = replace(failure, message=sentence, advice=f"what the command did is done; {failure.advice}")
    if failure is not None and any(map(_may_hold_key, words)):
        failure = _without_keys(failure, error)
    if failure is None:
        path = write_crash(error, words, cli.known_state_dir)
        advice = "this is a bug in nightvault: please report it" + (f" with {path}" if path else "")
        sentence = f"unexpected {type(error).__name__}: {error}"
        failure = Failure("unexpected", sentence, advice, int(ExitCode.FAILED))
    is_plain = isinstance(error, (click.ClickException, click.Abort, KeyboardInterrupt))
    if cli.verbose and not is_plain and not any(map(_may_hold_key, words)):
        import traceback

        click.echo("".join(traceback.format_exception(error)), err=True)
    try:
        _print(failure, error, cli, json=cli.json or "--json" in words)
        sys.stdout.flush()
    except OSError:  # also when the error is that stdout cannot be written: what is buffered stays there
        _give_up_stdout()
    return failure.exit_code


def _command_in(words: Sequence[str]) -> str:
    """The program and the command that words begin: click names none where an option lacks its value."""
    from backup.cli import COMMANDS

    return " ".join(["nightvault", *[word for word in words if word in COMMANDS][:1]])


def _may_hold_key(word: str) -> bool:
    return "NVK1-" in word.upper()


def _without_keys(failure: Failure, error: BaseException) -> Failure:
    """The failure without the words of a command line that holds a recovery key, or pieces of one."""
    from backup.cli.support.keyfiles import KEY_WAS_SEEN, without_keys

    if isinstance(error, (click.UsageError, UsageError)):
        return replace(
            failure, message="a recovery key is among the words of this command", advice=KEY_WAS_SEEN
        )
    return replace(failure, message=without_keys(failure.message), advice=without_keys(failure.advice))


def _print(failure: Failure, error: BaseException, cli: Cli, *, json: bool) -> None:
    from backup.cli.render import render

    if (
        type(error).__name__ == "NoArgsIsHelpError"
    ):  # a group without its command: click's message is the help
        click.echo(failure.message, err=True)
    else:
        if failure.kind == "interrupted" and sys.stderr.isatty():
            click.echo(err=True)  # the line above ends with the terminal's ^C, or with a question
        cli.error(f"nightvault: {failure.message}" + (f"\n  {failure.advice}" if failure.advice else ""))
    if json:
        click.echo(render.json_line({"error": failure}))


def _is_of_printing(error: OSError) -> bool:
    """Whether an error that names no file was raised while something was printed."""
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    module = at.tb_frame.f_globals.get("__name__") if at is not None else None
    return error.filename is None and module in {"click.utils", "rich.console", __name__}


def _give_up_stdout() -> None:
    """Let the interpreter's last flush go nowhere, so that it does not complain."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    except (OSError, ValueError):
        return


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end a command as Ctrl-C does; only a main thread may set handlers."""

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in ending_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
