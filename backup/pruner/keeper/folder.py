"""The keeper's folder: the vault's list, what rebuilds asked for, which servers are done.

    lock  done.json  answers.json  list/  asked/<inventory>/  asked/family/  scratch/

Rebuilt inventories lie in `scratch` for minutes: it is emptied at the beginning and the end of each step, so
also after a crash. No key is ever written here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime

import msgspec

from backup.errors import SpoolError
from backup.files import file_lock, write_durably
from backup.lineage import Stranger
from backup.model import InventoryId, VaultName
from backup.owners import make_private
from backup.pruner.keeper.lineages import pair_of
from backup.pruner.keeper.report import InventoryReport
from backup.rebuilder.fetching.journal import PACK
from backup.safe_paths import make_folders

_OTHER = "another `nightvault prune --delete-only` is at work in this state directory"


class Done(msgspec.Struct):
    """The servers that are done in this round, which uses one list; a dry run's are kept apart."""

    listed_at: datetime
    is_plan: bool
    reports: dict[str, InventoryReport] = {}


class Answer(msgspec.Struct, frozen=True):
    """A person's word that a pair of inventory and job takes no part in another server's.

    `asker` is the name (`Lineage.name`) of that server; without one it is said for all.
    """

    vault: VaultName
    pair: str
    pack: str
    who: str
    at: datetime
    asker: str = ""


class KeeperFolder:
    """The paths, used within `opened`."""

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    @contextmanager
    def opened(cls, path: str) -> Iterator[KeeperFolder]:
        """The folder, alone, without leftovers. `LockedError`."""
        try:
            make_folders(os.path.dirname(path))
            make_private(path)
            lock = file_lock(os.path.join(path, "lock"), told=_OTHER)
        except OSError as error:
            raise SpoolError(f"{path} cannot be made: {error.strerror}") from error
        with lock:
            folder = cls(path)
            folder.wipe()
            try:
                yield folder
            finally:
                folder.wipe()

    @property
    def listing(self) -> str:
        """Where the vault's list is kept."""
        return os.path.join(self.path, "list")

    def asked(self, inventory_id: InventoryId) -> str:
        """The folder of the journal of a server's rebuilds: what one asked for serves the others."""
        return os.path.join(self.path, "asked", inventory_id.hex())

    @property
    def family(self) -> str:
        """The folder of the journal of a look at who follows whom."""
        return os.path.join(self.path, "asked", "family")

    def share(self, inventory_id: InventoryId) -> None:
        """Give a server's rebuilds what came down to see who follows whom: it is not retrieved twice."""
        asked = self.asked(inventory_id)
        make_folders(asked)
        with suppress(FileNotFoundError):
            for name in os.listdir(self.family):
                if name.endswith(PACK):
                    with suppress(FileExistsError):
                        os.link(os.path.join(self.family, name), os.path.join(asked, name))

    def answers(self, vault: VaultName) -> set[tuple[str, str]]:
        """Who asked, and about which pair (`lineages.pair_of`), where a person answered, in a vault."""
        return {(answer.asker, answer.pair) for answer in self._answers() if answer.vault == vault}

    def answer(
        self, vault: VaultName, found: Sequence[tuple[str, Stranger]], who: str, now: datetime
    ) -> set[tuple[str, str]]:
        """Keep a person's word that these take no part for those who ask; all answers in that vault."""
        known = self._answers()
        new = [
            Answer(vault, pair_of(stranger), stranger.pack_id.hex(), who, now, asker)
            for asker, stranger in found
        ]
        write_durably(self._answered, msgspec.json.encode([*known, *new]), beside=f"{self._answered}.new")
        return self.answers(vault)

    def _answers(self) -> list[Answer]:
        with suppress(FileNotFoundError), open(self._answered, "rb") as file:
            try:
                return msgspec.json.decode(file.read(), type=list[Answer])
            except ValueError as error:
                raise SpoolError(
                    f"{self._answered} is damaged", advice="move it away: what it holds is asked again"
                ) from error
        return []

    @property
    def _answered(self) -> str:
        return os.path.join(self.path, "answers.json")

    def forget_asked(self, inventory_id: InventoryId) -> None:
        """Forget what a server's rebuilds asked for, and what came."""
        shutil.rmtree(self.asked(inventory_id), ignore_errors=True)

    @property
    def scratch(self) -> str:
        """Where rebuilt inventories lie."""
        return os.path.join(self.path, "scratch")

    def wipe(self) -> None:
        """Leave no rebuilt inventory behind."""
        try:
            shutil.rmtree(self.scratch, ignore_errors=True)
            os.mkdir(self.scratch, 0o700)
        except OSError as error:
            raise SpoolError(f"{self.scratch} cannot be emptied: {error.strerror}") from error

    def done(self, listed_at: datetime, *, is_plan: bool) -> Done:
        """The servers that are done by the list of that time."""
        with suppress(FileNotFoundError, ValueError), open(self._done, "rb") as file:
            done = msgspec.json.decode(file.read(), type=Done)
            if (done.listed_at, done.is_plan) == (listed_at, is_plan):
                return done
        return Done(listed_at, is_plan)

    def keep_done(self, done: Done) -> None:
        """Remember it while another server waits."""
        write_durably(self._done, msgspec.json.encode(done), beside=f"{self._done}.new")

    def clear(self) -> None:
        """The round is over: the next one asks for a new list."""
        self.forget_rounds()
        shutil.rmtree(self.listing, ignore_errors=True)

    def forget_rounds(self) -> None:
        """Forget what is done, and what rebuilds asked for."""
        shutil.rmtree(os.path.join(self.path, "asked"), ignore_errors=True)
        with suppress(FileNotFoundError):
            os.unlink(self._done)

    @property
    def _done(self) -> str:
        return os.path.join(self.path, "done.json")
