"""`nightvault notify`: tests the channels of [notify], and lists and sends messages."""

from __future__ import annotations

import os
import socket
import uuid
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from backup.cli.support.context import Cli, pass_cli
from backup.errors import ExitCode, NightvaultError, UsageError

if TYPE_CHECKING:
    from backup.config.notifying import ChannelSettings
    from backup.inventory.records.messages import Delivery
    from backup.inventory.records.runs import Run
    from backup.notify.channel import Note
    from backup.notify.letter import Letter

EXAMPLES = {
    "notify test": ("nightvault notify test", "nightvault notify test phone"),
    "notify list": ("nightvault notify list", "nightvault notify list --limit 5 --json"),
    "notify send": ("nightvault notify send", "nightvault notify send --json"),
    "notify report": ("nightvault notify report", "nightvault notify report 17 --html > report.html"),
}


@click.group()
def notify() -> None:
    """Channels that notify people of failures: test them, list messages, send those that wait."""


@notify.command()
@click.argument("names", nargs=-1, metavar="[CHANNEL]...")
@pass_cli
def test(cli: Cli, names: tuple[str, ...]) -> None:
    """Send a test message to each channel, or those named, and show what each answered.

    A ping goes to the address's /log: it appears among the events, and changes nothing else. Exit code 1 if
    a channel did not accept the message.
    """
    from backup.cli.render.render import table

    answers = [_try(cli, channel) for channel in _named(cli, names)]
    rows = [
        (answer["channel"], answer["kind"], "sent" if answer["sent"] else "failed", answer["answer"])
        for answer in answers
    ]
    cli.show(answers, table(["channel", "kind", "result", "answer"], rows))
    for answer in answers:
        if answer["advice"]:
            cli.warn(f"channel {answer['channel']}: {answer['advice']}")
    if not all(answer["sent"] for answer in answers):
        raise click.exceptions.Exit(int(ExitCode.FAILED))


def _named(cli: Cli, names: tuple[str, ...]) -> list[ChannelSettings]:
    from backup.config.shapes import suggestion

    config = cli.config()
    there = {channel.name: channel for channel in config.notify.channel}
    if not there:
        raise UsageError(
            f"{config.path} has no channel", advice="add a [[notify.channel]]; config.example.toml shows some"
        )
    for name in names:
        if name not in there:
            known = ", ".join(there)
            raise UsageError(f"no channel named {name}: there is {known}{suggestion(name, there)}")
    return [channel for name, channel in there.items() if not names or name in names]


def _try(cli: Cli, settings: ChannelSettings) -> dict[str, Any]:
    from backup.app.telling.channels import make_channel
    from backup.notify.channel import safely

    found = {"channel": settings.name, "kind": settings.kind, "sent": True, "advice": ""}
    try:
        answer = safely(partial(make_channel(settings, os.environ).send, _test_note(cli)))
    except NightvaultError as error:
        return found | {"sent": False, "answer": str(error), "advice": error.advice}
    return found | {"answer": answer}


def _test_note(cli: Cli) -> Note:
    from backup.inventory.store.states import MessageKind
    from backup.notify.channel import Note
    from backup.notify.letter import Letter

    host = socket.gethostname()
    letter = Letter(
        title=f"{host}: a test of nightvault's messages",
        host=host,
        facts=[("config", cli.config().path)],
        remarks=["If this came, messages of failures come by the same way. Nothing has to be done."],
    )
    return Note(str(uuid.uuid4()), MessageKind.WARNING, cli.clock.now(), letter, {"test": True})


@notify.command(name="list")
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The most to show."
)
@pass_cli
def list_(cli: Cli, limit: int) -> None:
    """List messages, newest first, and whether each channel has them."""
    from backup.app.base.opened import opened
    from backup.cli.render.render import local_time, table
    from backup.cli.render.tables import Column
    from backup.inventory.records import messages

    with closing(opened(cli.config())) as inventory, inventory.reading() as tx:
        found = messages.newest(tx, limit=limit)
    rows = [
        (
            local_time(delivery.message.created_at),
            delivery.message.kind,
            delivery.channel,
            delivery.state,
            delivery.message.title,
        )
        for delivery in found
    ]
    columns: list[object] = ["made", "kind", "channel", "state", Column("message", least=20)]
    cli.show(list(map(_document, found)), table(columns, rows) if rows else "there was no message yet")


def _document(delivery: Delivery) -> dict[str, Any]:
    return {
        "message": delivery.message.number,
        "kind": delivery.message.kind,
        "title": delivery.message.title,
        "job": delivery.message.job,
        "run": delivery.message.run,
        "created_at": delivery.message.created_at,
        "channel": delivery.channel,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "next_at": delivery.next_at if delivery.ended_at is None else None,
        "ended_at": delivery.ended_at,
        "answer": delivery.answer,
    }


@notify.command()
@pass_cli
def send(cli: Cli) -> None:
    """Send waiting messages now, also those held back by quiet hours or after a failed attempt.

    Exit code 1 if a message still waits.
    """
    from backup.app.telling.send import deliver_messages
    from backup.cli.render.render import counted

    done = deliver_messages(cli.config(), cli.clock, only_due=False)
    text = f"sent {counted(done.sent, 'message')}" + (
        f"; {done.waiting} still waiting" if done.waiting else ""
    )
    cli.report({"sent": done.sent, "waiting": done.waiting}, text)
    if done.waiting:
        raise click.exceptions.Exit(int(ExitCode.FAILED))


@notify.command()
@click.argument("number", metavar="[RUN]", type=click.IntRange(1, 2**63 - 1), required=False)
@click.option("--html", "as_page", is_flag=True, help="As a page, as it is in mail.")
@pass_cli
def report(cli: Cli, number: int | None, as_page: bool) -> None:
    """Show the report of a run as messages have it; without RUN that of the newest one."""
    from backup.app.telling.send import report_of
    from backup.inventory.store.states import MessageKind
    from backup.kinds import Outcome
    from backup.notify.letter import as_html, as_text

    run, letter = report_of(cli.config(), cli.clock, number)
    kind = MessageKind.RECOVERED if run.outcome is Outcome.DONE else MessageKind.FAILED
    text = as_html(letter, kind) if as_page else f"{letter.title}\n\n{as_text(letter)}".rstrip()
    cli.show(_report_document(run, letter), text)


def _report_document(run: Run, letter: Letter) -> dict[str, Any]:
    return {"run": run.number, "outcome": str(run.outcome), **letter.document()}
