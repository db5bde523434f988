"""What happens to a server in its years: storms, mistakes, losses, changes of keys and prices.

Each event is a function of the story; `calendar` says when they are. None of them tells the program that it
is a simulation.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime, timedelta
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from backup.app.base.opened import opened
from backup.config import load_config
from backup.errors import ConfigError
from backup.inventory.content import archives
from backup.inventory.content.archives import Archive
from backup.model import PackKind, VaultName
from tests.scenarios.machine import DAY, HOUR, remove
from tests.support.emulated import ACCOUNT_ID
from tests.support.rigs import glacier_client, s3_client
from tests.upgrade.installed import BUCKET, GLACIER_VAULT

if TYPE_CHECKING:
    from tests.scenarios.story import Story

REBUILDS, KEY_CHANGE = (2, 5, 9), 3
"""The years in which the server is lost, and in which its recovery key changes."""
A_LIST = 49 * 3600
"""After so many seconds the list of a Glacier vault shows all that was before: it may be a day old."""
_INVENTORY = re.compile(r"([0-9a-f]{32}): catalogs: .* newest of (\S+ \S+)")
Event = Callable[["Story"], None]


def calendar(years: int, start: datetime) -> Iterator[tuple[datetime, Event]]:
    """All events of so many years; the key is changed in the last one, if there is no third.

    The only one has the loss of a server, too.
    """
    for year in range(years):
        begin = start + timedelta(days=365 * year)
        for day, event in EACH_YEAR:
            yield begin + timedelta(days=day), event
        number = year + 1
        if number in REBUILDS or years == 1:
            yield _ninth(begin + timedelta(days=200)) - 6 * HOUR - timedelta(seconds=A_LIST), lose_the_server
        if number == min(KEY_CHANGE, years):
            yield begin + timedelta(days=300), change_the_key


def _ninth(moment: datetime) -> datetime:
    """The next ninth of a month at five: a prune falls due then, while the server is rebuilt."""
    return moment.replace(hour=5, minute=0) + (40 - moment.day) % 31 * DAY


def rename_storm(story: Story) -> None:
    """All directories and files get other names."""
    story.machine.living.rename_storm()


def suspend(story: Story) -> None:
    """The machine sleeps for more than two days."""
    story.machine.suspend(story.machine.clock.now() + timedelta(days=2, hours=7))


def reboot(story: Story) -> None:
    """It is off over a night."""
    story.machine.off(story.machine.clock.now() + timedelta(hours=19))


def holidays(story: Story) -> None:
    """It is off for nine days."""
    story.machine.off(story.machine.clock.now() + timedelta(days=9))


def cut_before(story: Story) -> None:
    """The power goes as the next run begins."""
    story.machine.cut = "before"


def cut_after(story: Story) -> None:
    """The power goes when the next backup has ended, and nobody has noted that yet."""
    story.machine.cut = "after"


def lose_an_archive(story: Story) -> None:
    """A needed archive is gone from the vault; a check finds it, and the next backup stores it again."""
    machine = story.machine
    lost = _newest_archive(story)
    assert lost.archive_id is not None
    with story.money.paid_by("losses"):
        _delete(story, str(lost.archive_id))
        machine.clock.sleep(A_LIST if machine.kind == "glacier" else 0)
        machine.run("check", "--vault", machine.vault, "--wait", allowed=(1,))
    story.back_up_by_hand()
    story.lost += 1


def _newest_archive(story: Story) -> Archive:
    with closing(opened(story.machine.config)) as inventory, inventory.reading() as tx:
        every = archives.list_archives(tx, inventory.id, vault=VaultName(story.machine.vault))
    return [archive for archive in every if archive.label.kind is PackKind.DATA][-1]


def _delete(story: Story, name: str) -> None:
    machine = story.machine
    machine.clock.catch_up()
    if machine.kind == "directory":
        (found,) = [path for path in (machine.folder / "vault").rglob(f"*{name}*") if path.suffix != ".json"][
            :1
        ]
        found.unlink()
    elif machine.kind == "glacier":
        client = glacier_client(machine.emulator)
        client.delete_archive(accountId=ACCOUNT_ID, vaultName=GLACIER_VAULT, archiveId=name)
    else:
        s3_client(machine.emulator.s3_url).delete_object(Bucket=BUCKET, Key=name)


def ransomware(story: Story) -> None:
    """All files are noise, also in the backups of two nights."""
    story.machine.living.ransomware()


def mistake(story: Story) -> None:
    """An admin deletes a directory, and nobody notices for a week."""
    story.machine.living.mistake()


def bring_back(story: Story) -> None:
    """It is restored from the newest snapshot that has it."""
    story.bring_back()


def forget_the_wrong_one(story: Story) -> None:
    """An admin forgets the newest snapshot, and takes it back."""
    newest = story.snapshots()[-1]
    story.machine.run("forget", newest)
    assert newest not in story.snapshots()
    story.machine.run("forget", "--undo", newest)
    assert newest in story.snapshots()


def break_the_config(story: Story) -> None:
    """An admin's config cannot be read for two days; the daemon goes on with the one that it has."""
    machine = story.machine
    (machine.folder / "config.toml").write_text("[[vault]\n")
    with pytest.raises(ConfigError):
        load_config(str(machine.folder / "config.toml"))
    machine.live(machine.clock.now() + 2 * DAY)
    machine.write_config()


def pause(story: Story) -> None:
    """The job is paused for three days."""
    machine = story.machine
    until = machine.clock.now() + 3 * DAY
    machine.run("pause", machine.job, "--until", "3d")
    machine.paused.append((machine.clock.now(), until))


def prices_double(story: Story) -> None:
    """Storage costs twice as much."""
    story.money.change_prices(2)


def prices_fall(story: Story) -> None:
    """And as before."""
    story.money.change_prices(1)


def change_the_key(story: Story) -> None:
    """A new recovery key: the server seals for it alone from now on, and is enrolled with it."""
    machine, new = story.machine, story.folder / "new.key"
    made = json.loads(machine.run("--json", "key", "generate", "--out", new))
    machine.more += f'[encryption]\nrecipients = ["{made["recipient"]}"]\n'
    machine.write_config()
    machine.start()
    machine.keys.append(new)
    story.back_up_by_hand("--accept-recipients")
    request, enrolment = story.folder / "request", story.folder / "enrolment"
    request.write_text(machine.run("--json", "key", "request"))
    ancestors = json.loads(request.read_text())["ancestors"]
    words = ["--key", new, "--yes", *(["--heir-of", ancestors[0]] if ancestors else [])]
    enrolment.write_text(machine.run("--json", "key", "enroll", request, *words))
    machine.run("key", "accept", enrolment)


def lose_the_server(story: Story) -> None:
    """The disk is gone with all that is on it; the vault and the recovery key bring everything back."""
    machine, before = story.machine, story.snapshots()
    lines = story.folder / "lines.txt"
    shutil.copyfile(story.folder / "state" / "recovery-lines.txt", lines)
    began = machine.clock.now()
    origin = ["--from", lines] if story.rebuilt % 2 else ["--vault", machine.vault]
    with story.money.paid_by("losses"):
        machine.living.wipe()
        remove(story.folder / "state")
        machine.clock.sleep(A_LIST)  # until there is a new machine, and the vault's list shows everything
        machine.gone.append((began, machine.clock.now()))
        words = ["rebuild", *origin, *machine.key_words(), "--wait"]
        told = machine.run(*words, allowed=(0, 2), stream="stderr")
        if "holds catalogs of several inventories" in told:  # it was rebuilt before: the newest one goes on
            newest = max(_INVENTORY.findall(told), key=itemgetter(1))[0]
            machine.run(*words, "--inventory", newest)
    assert story.snapshots() == before
    story.archives.forget_needs()  # of two copies of a chunk the new inventory may name the other one
    machine.start()
    target = story.folder / "brought back"
    story.restore(before[-1], target, "--wait")
    story.put_back(before[-1], target)
    story.money.outputs.clear()
    machine.away.append((began, machine.clock.now()))
    machine.awake += (machine.clock.now() - began).total_seconds()
    machine.start()
    story.rebuilt += 1
    story.begun.append(len(story.sizes))


EACH_YEAR: list[tuple[float, Event]] = [
    (20, rename_storm),
    (35, suspend),
    (50, reboot),
    (65, holidays),
    (79, cut_before),
    (86, cut_after),
    (100, lose_an_archive),
    (110, ransomware),
    (118, bring_back),
    (130, forget_the_wrong_one),
    (135, break_the_config),
    (150, mistake),
    (157, bring_back),
    (170, pause),
    (225, prices_double),
    (255, prices_fall),
]


def sizes(folder: Path) -> int:
    """The bytes of the files below a folder."""
    return sum(
        os.path.getsize(os.path.join(place, name)) for place, _, names in os.walk(folder) for name in names
    )
