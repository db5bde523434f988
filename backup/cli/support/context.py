"""The context of a command: global options, config, and its output for people and scripts."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from backup.errors import UsageError

if TYPE_CHECKING:  # heavy: imported where a command needs them
    from backup.config import Config, LogForm
    from backup.protocols import Clock, Progress
    from backup.transfer.retry import RetryLimit


_BRING_BACK = frozenset({"rebuild", "restore", "snapshots", "status"})
"""Commands that somebody gives who has lost a server."""
_LOST = (
    "in place of a server that is lost, do not give `nightvault begin`: docs/server-gone.md says what its "
    "config needs. On a new server `nightvault begin` writes one; or name a file: --config"
)


class Cli:
    """The context of one command; JSON documents and tables go to stdout, all other text to stderr."""

    def __init__(
        self,
        *,
        config_path: str | None = None,
        json: bool = False,
        quiet: bool = False,
        verbose: bool = False,
        wide: bool = False,
    ) -> None:
        self.config_path = config_path
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        self.wide = wide
        self.patience_words: str | None = None
        self._config: Config | None = None
        self._logged_as: LogForm | None = None

    @property
    def clock(self) -> Clock:
        """The system's clock."""
        from backup.app import SystemClock

        return SystemClock()

    def config(self, *, warns: bool = True) -> Config:
        """Return the config, found and read once; warn if other users can change it. `ConfigError`."""
        if self._config is None:
            from backup.config import find_config, load_config

            context = click.get_current_context(silent=True)
            is_for_lost = context is not None and context.command.name in _BRING_BACK
            more = {"advice": _LOST} if is_for_lost else {}
            self._config = load_config(find_config(self.config_path, os.environ, **more))
            if warns and self._config.warning:
                self.warn(f"warning: {self._config.warning}")
        return self._config

    def retry_limit(self, *, has_answered: bool = False) -> RetryLimit:
        """Return how long to retry when a vault does not answer, from --patience. `UsageError`."""
        from backup.config import parse_duration
        from backup.transfer.retry import RetryLimit

        if self.patience_words is None:
            return RetryLimit(has_answered=has_answered)
        words = self.patience_words.strip()
        try:
            seconds = parse_duration(int(words) if words.isdecimal() and len(words) < 9 else words)
        except ValueError as error:
            raise UsageError(f"--patience {words!r} {error}") from error
        return RetryLimit(float(seconds), has_answered)

    @property
    def known_state_dir(self) -> str | None:
        """Return the state directory if the config was read already; reads no file."""
        return None if self._config is None else self._config.state_dir

    def show(self, document: object, text: object = None, *, wraps: bool = False) -> None:
        """Write the command's result: `document` as a line of JSON with --json, else `text` (for rich).

        `document` may hold dataclasses, structs, datetimes and enums; bytes paths go through
        `render.path_document`. `wraps` breaks long lines of text between words.
        """
        from backup.cli.render import render

        if self.json:
            click.echo(render.json_line(document))
        elif isinstance(text, str):
            shown = render.printable(_with_places(text))
            click.echo(render.wrapped(shown, sys.stdout) if wraps and not self.wide else shown)
        elif text is not None:
            render.print_rich(text, sys.stdout, wide=self.wide)

    def report(self, document: object, text: object = None, *, wraps: bool = False) -> None:
        """Write the result of a success like `show`; with --quiet only the JSON document is written."""
        if self.json or not self.quiet:
            self.show(document, text, wraps=wraps)

    def say(self, text: str) -> None:
        """Write a remark to stderr, unless --quiet."""
        if not self.quiet:
            self._remark(text, "INFO")

    def warn(self, text: str) -> None:
        """Write a warning to stderr, even with --quiet."""
        self._remark(text, "WARNING")

    def error(self, text: str) -> None:
        """Write the error that ended a command, or a part of it."""
        self._remark(text, "ERROR")

    def _remark(self, text: str, level: str) -> None:
        from backup.cli.render import render

        text = _with_places(text)
        if self.is_logged:
            import logging

            logging.getLogger(__name__).log(getattr(logging, level), "%s", text)
            return
        if "NVK1-" in text.upper():  # a recovery key that somebody gave in the wrong place
            from backup.cli.support.keyfiles import without_keys

            text = without_keys(text)
        shown = render.printable(text)
        click.echo(shown if self.wide else render.wrapped(shown, sys.stderr), err=True)

    @property
    def is_logged(self) -> bool:
        """Whether remarks are written as log lines: to systemd's journal, or as configured JSON lines."""
        if self._config is None and "JOURNAL_STREAM" not in os.environ:
            return False
        from backup.cli.support import logs
        from backup.config import LogForm

        form = self._config.monitoring.log if self._config else LogForm.TEXT
        if self._logged_as != form and logs.is_wanted(form, os.environ):
            logs.log_to_stderr(form, quiet=self.quiet, verbose=self.verbose, environ=os.environ)
            self._logged_as = form
        return self._logged_as is not None

    def progress(self) -> Progress:
        """Return the progress to use: a bar on a terminal, else lines; JSON lines with --json --verbose."""
        from backup.app.restores.silence import Silent
        from backup.cli.render import progress

        if self.quiet:
            return Silent()
        if self.json and self.verbose:
            return progress.JsonLines(sys.stdout)
        if self.is_logged:
            return progress.Logged()
        if sys.stderr.isatty():
            from backup.cli.render.terminal import TerminalBar

            return TerminalBar(sys.stderr)
        return progress.PlainLines(sys.stderr)

    @property
    def can_ask(self) -> bool:
        """Whether a question can be asked on a terminal."""
        return sys.stdin.isatty()

    def confirm(self, question: str, *, option: str | None = "--yes") -> bool:
        """Ask a yes/no question; without a terminal raise `UsageError`, which names the option to use."""
        if not self.can_ask:
            raise UsageError(
                f"there is no terminal for the answer: {question}",
                advice="run it on a terminal" + (f", or with {option}" if option else ""),
            )
        return click.confirm(question, err=True)


pass_cli = click.make_pass_decorator(Cli, ensure=True)


def _with_places(text: str) -> str:
    """The text with paths that exist here; most texts name no installed file."""
    if not any(word in text for word in ("docs/", "deploy/", "config.example")):
        return text
    from backup.installed import with_places

    return with_places(text)
