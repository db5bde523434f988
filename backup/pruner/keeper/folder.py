"""The keeper's folder: the vault's list, what its rebuilds requested, which servers are finished.

    lock  done.json  answers.json  list/  asked/<inventory>/  asked/family/  scratch/  renewal/

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
from backup.safe_paths import make_folders
from backup.transfer.fetching.journal import PACK

_OTHER = "another `nightvault prune --delete-only` is at work in this state directory"
_OTHER_RENEWAL = "another `nightvault object-lock extend --for-servers` is at work in this state directory"


class Done(msgspec.Struct):
    """The servers finished in this round, which uses one list; those of a dry run are kept apart."""

    listed_at: datetime
    is_plan: bool
    reports: dict[str, InventoryReport] = {}


class Answer(msgspec.Struct, frozen=True):
    """A person's answer that an inventory and job are to be ignored for another server.

    `asker` is the name (`Lineage.name`) of that server; empty: for all servers.
    """

    vault: VaultName
    pair: str
    pack: str
    who: str
    at: datetime
    asker: str = ""


class KeeperFolder:
    """The paths in the folder, used within `opened`."""

    def __init__(self, path: str, answers: str) -> None:
        self.path = path
        self._answered = os.path.join(answers, "answers.json")

    @classmethod
    @contextmanager
    def opened(cls, path: str, *, renews: bool = False) -> Iterator[KeeperFolder]:
        """Open the folder under its lock, or that of renewals; remove leftovers. `LockedError`."""
        answers, path = path, os.path.join(path, "renewal") if renews else path
        try:
            make_folders(os.path.dirname(path))
            make_private(path)
            lock = file_lock(os.path.join(path, "lock"), told=_OTHER_RENEWAL if renews else _OTHER)
        except OSError as error:
            raise SpoolError(f"{path} cannot be made: {error.strerror}") from error
        with lock:
            folder = cls(path, answers)
            folder.wipe()
            try:
                yield folder
            finally:
                folder.wipe()

    @property
    def listing(self) -> str:
        """The path of the vault's list."""
        return os.path.join(self.path, "list")

    def asked(self, inventory_id: InventoryId) -> str:
        """Return the folder for the journal of a server's rebuilds, which share what they requested."""
        return os.path.join(self.path, "asked", inventory_id.hex())

    @property
    def family(self) -> str:
        """The folder for the journal of a search for lineages."""
        return os.path.join(self.path, "asked", "family")

    def share(self, inventory_id: InventoryId) -> None:
        """Link what the search for lineages retrieved into a server's folder: nothing is retrieved twice."""
        asked = self.asked(inventory_id)
        make_folders(asked)
        with suppress(FileNotFoundError):
            for name in os.listdir(self.family):
                if name.endswith(PACK):
                    with suppress(FileExistsError):
                        os.link(os.path.join(self.family, name), os.path.join(asked, name))

    def answers(self, vault: VaultName) -> set[tuple[str, str]]:
        """Return the pairs of asker and stranger (`lineages.pair_of`) with an answer for this vault."""
        return {(answer.asker, answer.pair) for answer in self._answers() if answer.vault == vault}

    def answer(
        self, vault: VaultName, found: Sequence[tuple[str, Stranger]], who: str, now: datetime
    ) -> set[tuple[str, str]]:
        """Save a person's answer that these are to be ignored; returns all answers for that vault."""
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
                    f"{self._answered} is damaged", advice="move it away: you must answer its questions again"
                ) from error
        return []

    def forget_asked(self, inventory_id: InventoryId) -> None:
        """Delete what a server's rebuilds requested, and what was retrieved."""
        shutil.rmtree(self.asked(inventory_id), ignore_errors=True)

    @property
    def ends(self) -> str:
        """The path of an inventory that has only the ends of locks, as the vault has answered them."""
        return os.path.join(self.path, "ends.sqlite")

    @property
    def scratch(self) -> str:
        """The folder of rebuilt inventories."""
        return os.path.join(self.path, "scratch")

    def wipe(self) -> None:
        """Delete all rebuilt inventories."""
        try:
            shutil.rmtree(self.scratch, ignore_errors=True)
            os.mkdir(self.scratch, 0o700)
        except OSError as error:
            raise SpoolError(f"{self.scratch} cannot be emptied: {error.strerror}") from error

    def done(self, listed_at: datetime, *, is_plan: bool) -> Done:
        """Return the servers that are finished by the list of that time."""
        with suppress(FileNotFoundError, ValueError), open(self._done, "rb") as file:
            done = msgspec.json.decode(file.read(), type=Done)
            if (done.listed_at, done.is_plan) == (listed_at, is_plan):
                return done
        return Done(listed_at, is_plan)

    def keep_done(self, done: Done) -> None:
        """Save it while another server waits."""
        write_durably(self._done, msgspec.json.encode(done), beside=f"{self._done}.new")

    def clear(self) -> None:
        """End the round: the next one requests a new list."""
        self.forget_rounds()
        shutil.rmtree(self.listing, ignore_errors=True)

    def forget_rounds(self) -> None:
        """Delete the record of finished servers, and what rebuilds requested."""
        shutil.rmtree(os.path.join(self.path, "asked"), ignore_errors=True)
        with suppress(FileNotFoundError):
            os.unlink(self._done)

    @property
    def _done(self) -> str:
        return os.path.join(self.path, "done.json")
