"""What somebody did to the objects of a bucket that keeps versions: it is found, and taken back.

    report = compare_versions(context)          # looks only
    report = compare_versions(context, takes_back=True)

Of all objects of a key ours is the oldest that has the recorded size and ETag. Nobody makes another object
with the same ETag (a second preimage of MD5), so what lies over it is somebody else's, and is deleted by its
version. A catalog whose ETag was not recorded (the newest, after a rebuild) is read, and proven by its hash;
of other objects without one nothing but delete markers is deleted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from backup.errors import DeniedError, InterruptedRunError, UsageError
from backup.inventory.content.locks import held_objects
from backup.inventory.questions.compared import recorded_objects
from backup.kinds import Outcome
from backup.model import ArchiveId, TreeHash, VaultName
from backup.protocols import phase
from backup.reports import Fact
from backup.transfer.recognise import meet, other_vault
from backup.transfer.vault_run import VaultRun
from backup.vault.s3.versions import KeyVersions, ObjectVersion, S3Versions
from backup.wording import counted

_MOST_NAMED = 20
_AT_ONCE = 16
_BATCH = 256
_OF_NOTHING = (0, "d41d8cd98f00b204e9800998ecf8427e", TreeHash(b""))  # the ETag of an empty object

Wanted = tuple[int, str, TreeHash]
"""The size, ETag (empty if unknown) and hash that were recorded."""


class Deed(StrEnum):
    """What somebody did to an object, the gravest first."""

    REPLACED = "replaced"
    OVERWRITTEN = "overwritten"
    HIDDEN = "hidden"
    TAGGED = "tagged"
    MOVED = "moved"


_SAYS: Mapping[Deed, tuple[str, str]] = {
    Deed.REPLACED: (
        "the bucket has objects of that name, none with the size and checksum that was stored",
        "lost there: `nightvault check --read-data` proves it, and the next backup stores it again",
    ),
    Deed.OVERWRITTEN: (
        "another object was put over it; the bytes that were stored are beneath",
        "`nightvault undelete --versions` takes away what lies over it",
    ),
    Deed.HIDDEN: (
        "a delete marker hides it; the bytes are still there",
        "`nightvault undelete --versions` takes the marker away",
    ),
    Deed.TAGGED: (
        "somebody gave it tags, by which a lifecycle rule may move or delete it",
        "look at the bucket's lifecycle rules; `nightvault undelete --versions` takes the tags away",
    ),
    Deed.MOVED: (
        "it lies in another storage class than the config has: by a lifecycle rule, or an older config",
        "take that rule away; what lies in a colder class is read as before, but hours later",
    ),
}


class VersionsReport(Struct, frozen=True):
    """What was found, and of that taken back; `named` are the first keys of each deed.

    `unproven`: no ETag was recorded, so that what lies over them stays. `refused`: what could not be taken
    away, and why. `gone`: archives of which the bucket has nothing at all. `unknown_holds`: objects under a
    legal hold that this inventory does not know, as after a rebuild.
    """

    vault: VaultName
    takes_back: bool
    is_plan: bool
    keys: int
    counts: Mapping[Deed, int]
    named: Mapping[Deed, tuple[ArchiveId, ...]]
    taken_back: int
    unproven: int
    refused: Mapping[ArchiveId, str]
    gone: int
    unknown_holds: int = 0
    warnings: tuple[str, ...] = ()
    waits_for: str = ""

    @property
    def subject(self) -> str:
        """The run in words."""
        return f"{'undelete' if self.takes_back else 'check'} of versions in vault {self.vault}"

    @property
    def outcome(self) -> Outcome:
        """Failed if something is lost, or stays hidden or overwritten; partial for the rest."""
        if self.gone or self.counts.get(Deed.REPLACED):
            return Outcome.FAILED
        if self.takes_back and not self.is_plan:
            is_left = bool(self.refused or self.unproven or self.counts.get(Deed.MOVED))
            return Outcome.PARTIAL if is_left or self.unknown_holds else Outcome.DONE
        if any(self.counts.get(deed) for deed in (Deed.OVERWRITTEN, Deed.HIDDEN)):
            return Outcome.FAILED
        return Outcome.PARTIAL if self.counts or self.unknown_holds else Outcome.DONE

    def facts(self, currency: str = "USD") -> Iterator[Fact]:  # noqa: ARG002 (nothing costs anything)
        """How many were looked at; each deed, what it means and what to do."""
        yield Fact(f"{counted(self.keys, 'object')}, by all versions that the bucket keeps", "looked at")
        if self.gone:
            yield Fact(f"{counted(self.gone, 'archive')}, with all versions; `nightvault check`", "gone")
        for deed in Deed:
            if count := self.counts.get(deed, 0):
                means, todo = _SAYS[deed]
                first = ", ".join(self.named[deed][:2]) + ", …" * (count > 2)
                todo = "" if self.takes_back and deed in _TAKEN_BACK else f"\n{todo}"
                yield Fact(f"{counted(count, 'object')}: {means}{todo}\n{first}", deed)
        if self.takes_back:
            yield Fact(
                counted(self.taken_back, "object"), "would be back" if self.is_plan else "brought back"
            )
        if self.unproven:
            what = counted(self.unproven, "object")
            yield Fact(f"{what}: no checksum was recorded, so what lies over it is left", "not proven")
        for key, why in self.refused.items():
            yield Fact(f"{key}: {why}", "refused")
        if self.unknown_holds:
            what = counted(self.unknown_holds, "object")
            yield Fact(
                f"{what} under a legal hold that is not known here, as after a rebuild\n"
                "`nightvault pin SNAPSHOT --legal-hold`, again for each snapshot that you hold, records it",
                "held",
            )
        if not self.counts and not self.gone:
            yield Fact("each object is the newest of its name, as it was stored", "nothing")

    def document(self) -> dict[str, Any]:
        """The report as JSON; its keys are part of the interface."""
        return {
            "vault": self.vault,
            "plan": self.is_plan,
            "keys": self.keys,
            "found": {
                deed: {"count": count, "objects": list(self.named[deed])}
                for deed, count in self.counts.items()
            },
            "taken_back": self.taken_back,
            "unproven": self.unproven,
            "refused": dict(self.refused),
            "gone": self.gone,
            "unknown_holds": self.unknown_holds,
            "warnings": list(self.warnings),
        }


_TAKEN_BACK = (Deed.OVERWRITTEN, Deed.HIDDEN, Deed.TAGGED)


def compare_versions(context: VaultRun, *, takes_back: bool = False, is_plan: bool = False) -> VersionsReport:
    """Compare all versions that the bucket keeps with what was recorded, and take back what was done.

    `UsageError` for a vault without versions, `OtherVaultError` if it is not the one of before.
    """
    vault = context.vault
    if not isinstance(vault, S3Versions):
        raise UsageError(f"vault {vault.name} is no bucket: it keeps no versions")
    meeting = meet(context.inventory, vault, context.patience)
    if meeting.is_other:  # or its identity is hidden, too
        beneath = context.patience.call(lambda: vault.identities_beneath(context.inventory.id))
        if meeting.known not in beneath:
            raise other_vault(meeting, vault)
    return _Comparison(context, vault, takes_back=takes_back, is_plan=is_plan).run()


class _Found(Struct, frozen=True):
    """A key with which something is wrong, and the versions to be deleted there, the markers last."""

    key: ArchiveId
    deeds: tuple[Deed, ...]
    ours: ObjectVersion | None
    over: tuple[str, ...] = ()
    is_unproven: bool = False
    is_held: bool = False


class _Comparison:
    """One comparison on its way."""

    def __init__(self, context: VaultRun, vault: S3Versions, *, takes_back: bool, is_plan: bool) -> None:
        self._context = context
        self._vault = vault
        self._takes_back, self._is_plan = takes_back, is_plan
        self._counts: Counter[Deed] = Counter()
        self._named: dict[Deed, tuple[ArchiveId, ...]] = {}
        self._refused: dict[ArchiveId, str] = {}
        self._keys = self._taken_back = self._unproven = 0
        self._sees_tags = self._sees_holds = True
        self._known_holds: Mapping[ArchiveId, object] = {}
        self._unknown_holds = 0

    def run(self) -> VersionsReport:
        """Look at one key after the other, in the bucket's order."""
        context, name = self._context, self._context.vault.name
        with context.inventory.reading() as tx:
            recorded = recorded_objects(tx, name)
            self._known_holds = held_objects(tx, name)
        listed = self._known(recorded)
        with (
            phase(context.progress, "Looking at versions", counts="object"),
            ThreadPoolExecutor(_AT_ONCE, "versions") as workers,
        ):
            while batch := list(islice(listed, _BATCH)):
                if context.stop():
                    raise InterruptedRunError("stopped: the same command begins again")
                for found in workers.map(self._look, *zip(*batch, strict=True)):
                    self._note(found)
                context.progress.advance(files=len(batch))
        unseen = [
            *(() if self._sees_tags else ("tags",)),
            *(() if self._sees_holds else ("legal holds",)),
        ]
        warnings = (f"{' and '.join(unseen)} were not looked at: this role may not see them",) * bool(unseen)
        return VersionsReport(
            name,
            takes_back=self._takes_back,
            is_plan=self._is_plan,
            keys=self._keys,
            counts={deed: self._counts[deed] for deed in Deed if self._counts[deed]},
            named=self._named,
            taken_back=self._taken_back,
            unproven=self._unproven,
            refused=dict(islice(self._refused.items(), _MOST_NAMED)),
            gone=len(recorded),
            unknown_holds=self._unknown_holds,
            warnings=warnings,
        )

    def _known(self, recorded: dict[ArchiveId, Wanted]) -> Iterator[tuple[KeyVersions, Wanted]]:
        """The keys that are recorded, and names, each with its size and ETag; others are not ours.

        Those that were found are taken out of `recorded`. A name of which nothing is left says nothing.
        """
        for line in self._vault.versions():
            is_name = line.is_name and any(version.size == 0 for version in line.objects)
            wanted = _OF_NOTHING if is_name else recorded.get(line.key)
            if wanted is not None and line.objects:
                recorded.pop(line.key, None)
                self._keys += 1
                yield line, wanted

    def _look(self, line: KeyVersions, wanted: Wanted) -> _Found:
        found = judged(line, wanted)
        if found.is_unproven and found.ours is not None and self._is_proven(found, found.ours, wanted):
            found = judged(line, (wanted[0], found.ours.tag, wanted[2]))
        if found.ours is not None and Deed.MOVED in found.deeds and self._is_at_home(found.key, found.ours):
            found = replace(found, deeds=tuple(deed for deed in found.deeds if deed is not Deed.MOVED))
        if found.ours is None:
            return found
        version = found.ours.id
        if self._is_tagged(line.key, version):
            found = replace(found, deeds=(*found.deeds, Deed.TAGGED))
        return replace(found, is_held=self._is_held(line.key, version))

    def _is_proven(self, found: _Found, ours: ObjectVersion, wanted: Wanted) -> bool:
        """Whether the bytes of a catalog are those that were stored; asked only before it is taken back."""
        if not self._takes_back or not self._vault.is_readable_catalog(found.key, ours):
            return False
        return self._context.patience.call(partial(self._vault.hash_of, found.key, ours.id)) == wanted[2]

    def _is_at_home(self, key: ArchiveId, ours: ObjectVersion) -> bool:
        """Whether it lies where it was stored, by a config of before."""
        try:
            sent_as = self._context.patience.call(partial(self._vault.sent_as, key, ours.id))
        except DeniedError:
            return False
        return sent_as == ours.storage_class

    def _is_tagged(self, key: ArchiveId, version: str) -> bool:
        if not self._sees_tags:
            return False
        try:
            return self._context.patience.call(partial(self._vault.is_tagged, key, version))
        except DeniedError:
            self._sees_tags = False
            return False

    def _is_held(self, key: ArchiveId, version: str) -> bool:
        """Whether it is under a legal hold; what the inventory knows to be held is not asked."""
        if not self._sees_holds or key in self._known_holds:
            return False
        try:
            return self._context.patience.call(partial(self._vault.is_held, key, version))
        except DeniedError:
            self._sees_holds = False
            return False

    def _note(self, found: _Found) -> None:
        for deed in found.deeds:
            self._counts[deed] += 1
            self._named[deed] = (*self._named.get(deed, ()), found.key)[:_MOST_NAMED]
        self._unproven += found.is_unproven
        self._unknown_holds += found.is_held
        if not self._takes_back or found.ours is None:
            return
        is_to_be_done = bool(found.over) or Deed.TAGGED in found.deeds
        if is_to_be_done and (self._is_plan or self._take_back(found, found.ours)):
            self._taken_back += not found.is_unproven

    def _take_back(self, found: _Found, ours: ObjectVersion) -> bool:
        """Delete what lies over ours, the newest marker last, so that nothing of somebody else's shows."""
        call = self._context.patience.call
        for version in found.over:
            refusal = call(partial(self._vault.remove_version, found.key, version))
            if refusal is not None:
                self._refused[found.key] = refusal.detail
                return False
        if Deed.TAGGED in found.deeds:
            call(partial(self._vault.remove_tags, found.key, ours.id))
        return True


def judged(line: KeyVersions, wanted: Wanted) -> _Found:
    """What was done to the objects of a key of which one had that size and ETag (empty: not recorded)."""
    size, tag, _ = wanted
    ours = next(_same(reversed(line.objects), size, tag), None)
    if ours is None:
        return _Found(line.key, (Deed.REPLACED,), None)
    deeds = []
    others = [version for version in line.objects if version is not ours]
    is_unproven = bool(others) and not tag
    if others:
        deeds.append(Deed.OVERWRITTEN)
    if line.is_hidden:
        deeds.append(Deed.HIDDEN)
    if ours.storage_class != line.storage_class:
        deeds.append(Deed.MOVED)
    over = (*(() if is_unproven else (version.id for version in others)), *line.markers)
    return _Found(line.key, tuple(deeds), ours, over if others or line.is_hidden else (), is_unproven)


def _same(objects: Iterable[ObjectVersion], size: int, tag: str) -> Iterator[ObjectVersion]:
    """Those with that size and, if one was recorded, that ETag."""
    return (version for version in objects if version.size == size and tag in {"", version.tag})
