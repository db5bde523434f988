"""The last part of `begin`: writes the config that was shown, and runs the commands that were shown."""

from __future__ import annotations

import copy
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, field
from random import SystemRandom
from typing import Any

import click

from backup.app.beginning.answers import Answers, Where
from backup.app.beginning.sheet import asked_groups, sheet, wrong_groups
from backup.cli.begin.next_steps import cold_drill, take_away
from backup.cli.begin.question import Facts, yes_or_no
from backup.cli.begin.summary import drill_words, folded
from backup.cli.begin.walk import Screen
from backup.cli.support.context import Cli
from backup.errors import ConfigError, ExitCode, TargetError, UsageError
from backup.files import create_durably

_PRIVATE = 0o700


def write_config(path: str, text: str) -> None:
    """Create the config file and its directory. The file must not exist yet. `ConfigError`."""
    try:
        os.makedirs(os.path.dirname(path), mode=_PRIVATE, exist_ok=True)
        create_durably(path, text.encode())
    except FileExistsError as error:
        raise already_there(path) from error
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}", advice="nothing was written") from error


def already_there(path: str) -> UsageError:
    """Return the error that refuses to overwrite an existing config."""
    return UsageError(
        f"there is a config already: {path}",
        advice="it is never written over. To go on with it: `nightvault init --key-file FILE` (again at "
        "will), then `nightvault backup`; `nightvault config check` says whether it is fine, `nightvault "
        "doctor` what it lacks. To answer anew, move it away",
    )


@dataclass
class Doer:
    """Runs the commands one after the other; `screen` is None without a terminal for questions."""

    cli: Cli
    root: click.Command
    answers: Answers
    facts: Facts
    named: Sequence[str]
    screen: Screen | None
    say: Callable[[str], None]
    commands: Sequence[tuple[str, ...]]
    finished: set[tuple[str, ...]] = field(default_factory=set)
    worst: int = int(ExitCode.DONE)

    def run(self) -> bool:
        """Run the commands that were shown; return whether a backup was made."""
        made = False
        for words in self.commands:
            if words[0] == "drill":
                self._drill(words if self.has_key else drill_words(self.answers)[:3])
                continue
            code = self._call(words)
            self.finished.add(words)
            self.worst = self.worst or code
            if code not in {ExitCode.DONE, ExitCode.PARTIAL}:
                return made
            if words[0] == "init":
                self._prove_the_key()
            made = made or words[0] == "backup"
        return made

    @property
    def has_key(self) -> bool:
        """Whether `init` made a recovery key: it makes none for a server that already has recipients."""
        return bool(self.answers.key_file) and os.path.exists(self.answers.key_file)

    def _call(self, words: tuple[str, ...]) -> int:
        """A command in this process, by the program's own way in; its exit code."""
        self.say("\n" + folded("$ ", self.named, words))
        inner = copy.copy(self.cli)
        inner.config_path, inner.json = self.facts.place.config, False
        how: dict[str, Any] = {"standalone_mode": False, "obj": inner}
        with redirect_stdout(sys.stderr) if self.cli.json else nullcontext():
            code = self.root.main(list(words), **how)
        return code if isinstance(code, int) else int(ExitCode.DONE)

    def _may(self, question: str, default: str) -> bool:
        """Ask, where somebody can be asked; else it is as the file of answers was meant."""
        while self.screen is not None:
            typed = self.screen.ask(f"{question} [{default}]") or default
            try:
                return yes_or_no(typed)
            except UsageError as error:
                self.screen.say(str(error))
        return True

    def _prove_the_key(self) -> None:
        """Write the sheet, and have some of its groups typed back."""
        answers = self.answers
        if not self.has_key:
            return
        from backup.cli.support.keyfiles import read_key

        key = read_key(answers.key_file, None)
        if answers.sheet is not None:
            text = sheet(key, host=self.facts.place.host, vault=self._vault(), day=self.facts.now.date())
            try:
                create_durably(answers.sheet, text.encode())
            except OSError as error:
                raise TargetError(f"cannot write the sheet {answers.sheet}: {error.strerror}") from error
            self.say(
                f"the sheet is {answers.sheet}: print it now (lp {shlex.quote(answers.sheet)}), or fetch it "
                f"and {answers.key_file} from the machines where they are to be kept (scp)"
            )
        if self.screen is None:
            self.say("nobody has shown yet that the recovery key was kept")
            return
        asked = asked_groups(SystemRandom())
        names = ", ".join(map(str, asked))
        while True:
            typed = self.screen.ask(f"From what you keep, type the groups {names} (of 14):")
            if typed in {"?", "help"}:
                self.screen.say(
                    "The key is NVK1 and 14 groups of four characters. Look at the copy that you will have "
                    f"when this server is gone, and type its groups {names}. Ctrl-C ends here: config and "
                    "keys are whole."
                )
                continue
            wrong = wrong_groups(key, asked, typed)
            if wrong is None:
                self.screen.say(f"those are not {len(asked)} groups of four characters; ? helps")
            elif wrong:
                self.screen.say(f"not as in the key: group {', '.join(map(str, wrong))}; ? helps")
            else:
                self.screen.say("right: the key was kept")
                return

    def _vault(self) -> str:
        answers = self.answers
        if answers.where is Where.DISK:
            return f"the directory {answers.path}"
        if answers.where is Where.S3:
            return f"the bucket {answers.bucket} at {answers.endpoint}"
        from backup.config import load_config

        made = load_config(self.facts.place.config).vaults[0]  # `setup aws` has written into it
        what = f"the bucket {made.bucket}" if made.bucket else f"the Glacier vault {made.vault}"
        account = made.role_arn.split(":")[4] if made.role_arn else "that of this server's certificate"
        return f"{what},\nAWS region {made.region}, account {account}"

    def _drill(self, words: tuple[str, ...]) -> None:
        """A drill that is free is made; else its price is shown, and somebody asked."""
        if not self.answers.where.is_set_up:
            self.worst = self.worst or self._call(words)
            return
        self._call(words)
        failed = False
        if self.screen is not None and self._may("Ask for this file now, at this price?", "no"):
            code = self._call(drill_words(self.answers))
            if code == ExitCode.DONE:
                return
            failed = code != ExitCode.WAITING
            self.worst = self.worst or (code if failed else 0)
        self.say("A drill of one file:")
        for line in cold_drill(self.answers, self.named, failed=failed):
            self.say(line)


def how_to_go_on(doer: Doer) -> str:
    """Return the text for a `begin` that stopped: what was done, and the commands that are left to run."""
    config = doer.facts.place.config
    left = [words for words in doer.commands if words not in doer.finished]
    lines = [
        f"stopped: the config {config} is whole, and so is all that was done. It may be edited. To go on:"
    ]
    lines += [folded("  ", doer.named, words) for words in left]
    if doer.has_key:
        lines += take_away(doer.answers)
    return "\n".join(lines)
