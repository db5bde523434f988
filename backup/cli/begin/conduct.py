"""`nightvault begin` from start to end: asks the questions, shows the summary, carries it out."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Mapping

import click

from backup.app.base.silent_mounts import Places
from backup.app.base.state import State
from backup.app.beginning.answers import Answers, ConfigPaths
from backup.app.beginning.measure import can_be_made, databases_here, unanswered, usual_folders
from backup.cli.begin.carry_out import Doer, already_there, how_to_go_on, write_config
from backup.cli.begin.course import COURSE, NOTHING_YET, answers_in
from backup.cli.begin.next_steps import next_steps
from backup.cli.begin.question import Facts, yes_or_no
from backup.cli.begin.summary import Summary, show, summary_of
from backup.cli.begin.walk import BACK, LeftError, Screen, Walk
from backup.cli.begin.what_and_where import answering
from backup.cli.support.context import Cli
from backup.config import SYSTEM_CONFIG
from backup.config.reading import USER_CONFIG
from backup.config.settings import DEFAULT_STATE_DIR
from backup.errors import ConfigError, ExitCode, InterruptedRunError, NightvaultError, UsageError

_NOTHING = "stopped: nothing was written"
_GO_ON = "Write it, and run these? (yes, no; < goes back) [yes]"


def begin(cli: Cli, root: click.Command, answers_file: str | None, *, dry_run: bool) -> int:
    """Ask the questions or read the answers, show the summary, carry it out; return the exit code."""
    path, is_usual = config_place(cli.config_path, os.environ)
    if os.path.lexists(answering(path)):
        raise already_there(path)
    if not dry_run:
        _must_be_possible(path)
    asks = answers_file is None
    if asks and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "`nightvault begin` asks on a terminal, and this is none", advice="give --answers FILE"
        )
    screen = Screen(sys.stderr)
    named = () if is_usual else ("--config", path)
    try:
        facts = facts_of(cli, path)
        for folder in unanswered(facts.home, facts.places, is_root=facts.is_root):
            cli.warn(f"{folder} does not answer, and is not proposed: its mount may be dead")
        if answers_file is not None:
            answers = answers_in(answers_file, COURSE, NOTHING_YET, facts)
            made = summary_of(answers, facts, cli.clock, asks=False)
        else:
            answers, made = _asked(cli, screen, facts, named)
    except (LeftError, KeyboardInterrupt):
        cli.warn(_NOTHING)
        return int(ExitCode.INTERRUPTED)
    if dry_run:
        for text in () if asks or cli.json else made.warnings:
            cli.warn(text)
        cli.show(_document(made, path), made.text.rstrip())
        return int(ExitCode.DONE)
    if not (asks or cli.quiet):
        show(screen, made, facts, named)
    return _do(cli, root, answers, made, facts, named, screen if asks else None)


def _must_be_possible(path: str) -> None:
    """`ConfigError` where no config can be written, before anybody answers twenty questions."""
    try:
        can_be_made(path)
    except UsageError as error:
        raise ConfigError(f"cannot write the config {path}: {error}", advice="give --config FILE") from error


def config_place(explicit: str | None, environ: Mapping[str, str]) -> tuple[str, bool]:
    """Return the path for the new config, and whether commands find it there without `--config`.

    A config that exists at one of the usual paths comes first.
    """
    named = explicit or environ.get("NIGHTVAULT_CONFIG")
    if named:
        return os.path.abspath(named), explicit is None
    home = environ.get("HOME") or os.path.expanduser("~")
    places = (SYSTEM_CONFIG, os.path.join(home, USER_CONFIG))
    found = [path for path in places if os.path.lexists(path)]
    return found[0] if found else places[os.geteuid() != 0], True


def facts_of(cli: Cli, path: str) -> Facts:
    """Return the facts about this machine that questions depend on."""
    home, is_root, places = os.path.expanduser("~"), os.geteuid() == 0, Places()
    state = os.path.join(os.path.dirname(path), "state")
    if path == SYSTEM_CONFIG:
        state = DEFAULT_STATE_DIR
    elif path == os.path.join(home, USER_CONFIG):
        state = os.path.join(home, ".local", "share", "nightvault")
    return Facts(
        place=ConfigPaths(path, state, socket.gethostname() or "localhost"),
        home=home,
        is_root=is_root,
        now=cli.clock.now().astimezone(),
        environ=os.environ,
        folders=usual_folders(home, places, is_root=is_root),
        databases=databases_here(places),
        has_key=_knows_its_key(state),
        places=places,
    )


def _knows_its_key(state: str) -> bool:
    try:
        return bool(State(state).read_recipients())
    except NightvaultError:  # `init` tells it
        return False


def _asked(cli: Cli, screen: Screen, facts: Facts, named: tuple[str, ...]) -> tuple[Answers, Summary]:
    """The answers of a person who has seen what follows from them, and said yes."""
    if not facts.is_root:
        screen.say("note: you are not root: files that you may not read will not be saved")
    if facts.has_key:
        screen.say(
            f"note: {facts.place.state} is of a server that was set up before: it goes on, with the recovery "
            "key that was made then"
        )
    walk = Walk(screen, facts, COURSE, NOTHING_YET)
    answers = walk.run()
    while True:
        try:
            made = summary_of(answers, facts, cli.clock, asks=True)
            show(screen, made, facts, named)
            typed = screen.ask(_GO_ON) or "yes"
        except NightvaultError as error:
            if isinstance(error, LeftError):
                raise
            screen.say(f"{error}")
            typed = BACK[0]
        if typed in BACK:
            answers = walk.back()
            continue
        try:
            is_meant = yes_or_no(typed)
        except UsageError as error:
            screen.say(str(error))
            continue
        if not is_meant:
            raise UsageError("nothing was written")
        return answers, made


def _do(
    cli: Cli,
    root: click.Command,
    answers: Answers,
    made: Summary,
    facts: Facts,
    named: tuple[str, ...],
    screen: Screen | None,
) -> int:
    """Write and run; what is left to do."""
    shown = Screen(sys.stderr)
    say: Callable[[str], None] = (lambda _text: None) if cli.quiet else shown.say
    doer = Doer(cli, root, answers, facts, named, screen, say, made.commands)
    write_config(facts.place.config, made.text)
    try:
        cli.say(f"written: {facts.place.config}")
        backed_up = doer.run()
    except (LeftError, InterruptedRunError, KeyboardInterrupt, click.Abort):
        shown.say(how_to_go_on(doer))
        return int(ExitCode.INTERRUPTED)
    except NightvaultError:
        shown.say(how_to_go_on(doer))
        raise
    say("")
    for line in next_steps(answers, facts, named, backed_up=backed_up):
        say(line)
    if cli.json:
        cli.show(_document(made, facts.place.config))
    return doer.worst


def _document(made: Summary, path: str) -> dict[str, object]:
    return {
        "config": path,
        "text": made.text,
        "commands": [["nightvault", *words] for words in made.commands],
        "warnings": list(made.warnings),
        "findings": [{"check": finding.check, "what": finding.what} for finding in made.findings],
    }
