"""Sends a message at once, without a row, if the inventory cannot be written.

An admin must hear of a full or read-only disk, on which no message can be recorded. What was sent on which
day is noted in the runtime directory, which is in memory on most systems; if there is none either, each
failure is sent.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import uuid
from contextlib import suppress
from datetime import datetime
from functools import partial

from backup.app.telling.channels import chosen, make_channel, zone_of
from backup.config import Config
from backup.errors import NightvaultError
from backup.files import write_durably
from backup.inventory.records.runs import Run
from backup.inventory.store.states import MessageKind
from backup.model import JobName
from backup.notify.channel import Note, safely
from backup.notify.letter import Letter
from backup.notify.run_letters import LetterContext, details_of, letter_of
from backup.protocols import Clock

_MOST_NOTED = 64 * 1024
_log = logging.getLogger(__name__)


def send_directly(config: Config, clock: Clock, why: NightvaultError, run: Run | None) -> bool:
    """Send that a run failed, or that nothing can be recorded, unless that was sent today.

    False if there are channels, and none of them took it.
    """
    if not config.notify.channel:
        return True
    now = clock.now()
    day = str(now.astimezone(zone_of(config)).date())
    subject = "inventory" if run is None else f"{run.kind}/{run.job or run.vault or ''}"
    noted = _read(config)
    if noted.get(subject) == day:
        return True
    note = _note(config, why, run, now, f"{config.state_dir} {subject} {day}")
    if not _send(config, note, None if run is None else run.job):
        return False
    _write(config, {**{key: told_on for key, told_on in noted.items() if told_on == day}, subject: day})
    return True


def _note(config: Config, why: NightvaultError, run: Run | None, now: datetime, key: str) -> Note:
    host = socket.gethostname()
    if run is None:
        title = f"{host}: nightvault can record nothing"
        letter = Letter(title, host, [("error", str(why))], advice=why.advice, command="nightvault status")
        details: dict[str, object] = {}
    else:
        vault = next((job.vault for job in config.jobs if job.name == run.job), None)
        letter = letter_of(run, MessageKind.FAILED, LetterContext(host, zone_of(config), vault))
        details = dict(details_of(run, vault))
    return Note(str(uuid.uuid5(uuid.NAMESPACE_OID, key)), MessageKind.FAILED, now, letter, details)


def _send(config: Config, note: Note, job: JobName | None) -> bool:
    """Send to each channel; whether any took it."""
    taken = False
    for settings in chosen(config, MessageKind.FAILED, job):
        try:
            safely(partial(make_channel(settings, os.environ).send, note))
            taken = True
            _log.info("channel %s: sent: %s", settings.name, note.letter.title)
        except NightvaultError as error:
            _log.warning("channel %s: not sent, and cannot be sent later: %s", settings.name, error)
    return taken


def _place(config: Config) -> str | None:
    """The file of notes in the runtime directory of the unit, the system or the user; None without one."""
    name = f"nightvault-told-{uuid.uuid5(uuid.NAMESPACE_OID, config.state_dir).hex[:12]}.json"
    given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    user = os.environ.get("XDG_RUNTIME_DIR", "")
    for directory in (given, "/run" if os.geteuid() == 0 else "", user):
        if directory and os.access(directory, os.W_OK):
            return os.path.join(directory, name)
    return None


def _read(config: Config) -> dict[str, str]:
    place = _place(config)
    with suppress(OSError, ValueError):
        if place is not None:
            with open(place, "rb") as file:
                found = json.loads(file.read(_MOST_NOTED))
            if isinstance(found, dict):
                return {str(key): str(day) for key, day in found.items()}
    return {}


def _write(config: Config, noted: dict[str, str]) -> None:
    place = _place(config)
    if place is not None:
        with suppress(OSError):
            write_durably(place, json.dumps(noted).encode())
