"""Sends waiting messages by the config's channels, and prepares them for `notify`."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing

from backup.app.base.opened import opened
from backup.app.telling.channels import chosen, make_channels
from backup.app.telling.maker import Maker
from backup.config import Config
from backup.errors import UsageError
from backup.inventory.records import runs
from backup.inventory.records.messages import Message
from backup.inventory.records.runs import Run
from backup.inventory.store.states import MessageKind
from backup.kinds import Outcome
from backup.notify.channel import Note, message_id, run_id
from backup.notify.decide import SILENT
from backup.notify.letter import Letter
from backup.notify.outbox import Flushed, deliver
from backup.notify.run_letters import letter_of
from backup.protocols import Clock


def deliver_messages(
    config: Config, clock: Clock, *, stop: Callable[[], bool] = lambda: False, only_due: bool = True
) -> Flushed:
    """Send waiting messages. Errors of the inventory are raised, those of channels recorded and logged."""
    with closing(opened(config)) as inventory:
        channels = make_channels(config, os.environ)

        def note(message: Message) -> Note:
            return note_of(inventory.id, message)

        def now_chosen(message: Message) -> list[str]:
            return [channel.name for channel in chosen(config, message.kind, message.job)]

        return deliver(inventory, channels, note, clock, stop=stop, only_due=only_due, chosen=now_chosen)


def note_of(inventory_id: bytes, message: Message) -> Note:
    """Return a message in the form that channels send.

    Its ids are derived from the inventory's, and never change.
    """
    details = {key: value for key, value in message.document.items() if key != "letter"}
    code = details.pop("exit_code", None)
    return Note(
        id=message_id(inventory_id, message.key),
        kind=message.kind,
        created_at=message.created_at,
        letter=Letter.of(message.document["letter"]),
        details=details,
        run_id=None if message.run is None else run_id(inventory_id, message.run),
        exit_code=code,
    )


def report_of(config: Config, clock: Clock, number: int | None) -> tuple[Run, Letter]:
    """Return a run and the letter about it; without a number the newest run that is not silent.

    `UsageError`.
    """
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        wanted = runs.find_run(tx, number) if number is not None else None
        if number is None:
            ended = (run for run in runs.list_runs(tx) if run.outcome is not Outcome.RUNNING)
            wanted = next((run for run in ended if run.kind not in SILENT), None)
        if wanted is None:
            raise UsageError("nothing was run yet" if number is None else f"there is no run {number}")
        at = Maker(config, clock.now()).letter_context(tx, wanted)
        return wanted, letter_of(wanted, MessageKind.RUN, at)
