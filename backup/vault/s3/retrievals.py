"""Retrievals from a bucket. S3 calls them restores, gives them no ids, and accepts a repeated request.

An object in a class that can be read at once is ready at once, and in ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress

from backup.errors import (
    ArchiveMissingError,
    ArchiveShortError,
    NightvaultError,
    RetrievalExpiredError,
    RetrievalNotReadyError,
    VaultError,
)
from backup.model import (
    MIB,
    ArchiveId,
    ByteRange,
    Fetched,
    RetrievalId,
    RetrievalState,
    RetrievalStatus,
    Tier,
)
from backup.vault.aws import translated_errors
from backup.vault.rate_limit import NO_LIMITS, RateLimits, read_all
from backup.vault.s3 import answers, keys
from backup.vault.s3.requests import BucketRequests

_BENEATH = "look for what was stored first"

FEW = 3
"""Up to this number the states of objects are requested one by one; a list gives those of a thousand at
once."""


class _NotFrozenError(VaultError):
    """S3's codes for an object that can be read as it is, or whose restore is under way."""


class S3Retrievals:
    """The part of `protocols.Vault` that retrieves and fetches."""

    def __init__(self, requests: BucketRequests, limits: RateLimits = NO_LIMITS) -> None:
        self._requests = requests
        self._limits = limits

    def request_retrieval(
        self,
        archive_id: ArchiveId,
        extent: ByteRange | None,
        tier: Tier,
        token: str,  # noqa: ARG002 (asking again finds what was asked for)
    ) -> RetrievalId:
        """RestoreObject of the whole object; one that can be read as it is, is ready at once."""
        doing = f"request the retrieval of archive {archive_id}"
        if keys.label_of(archive_id) is None:
            self._requests.require(doing)
            raise ArchiveMissingError(f"cannot {doing}: no archive of a bucket has such an id")
        if not self._requests.bucket.is_frozen:
            return self._open_directly(archive_id, extent, tier, doing)
        if extent is not None:
            raise VaultError(f"cannot {doing}: S3 retrieves whole objects, no ranges of them")
        self._restore(archive_id, tier, doing)
        return keys.retrieval_id_of(archive_id, None)

    def readable(self, archive_id: ArchiveId, size: int) -> RetrievalId | None:  # noqa: ARG002 (the id has none)
        """As of `ReadsDirectly`: all of it, unless the bucket's storage class must be retrieved first."""
        return None if self._requests.bucket.is_frozen else keys.retrieval_id_of(archive_id, None)

    def _open_directly(
        self, archive_id: ArchiveId, extent: ByteRange | None, tier: Tier, doing: str
    ) -> RetrievalId:
        head = self._requests.head(archive_id, doing)
        if answers.is_frozen(head):  # by a lifecycle rule, or put there when the config had another class
            self._restore(archive_id, tier, doing)
        size = head["ContentLength"]
        if not size or (extent and extent.end > size):
            if not self._requests.is_covered(archive_id) and self._requests.lies_beneath(archive_id, doing):
                return self._open_directly(archive_id, extent, tier, doing)
            raise ArchiveShortError(f"cannot {doing}: it ends at byte {size}")
        if extent and not _is_range_of_mib(extent, size):
            raise VaultError(
                f"cannot {doing}: bytes {extent.start} to {extent.end} are no range of whole MiB"
            )
        return keys.retrieval_id_of(archive_id, extent)

    def _restore(self, archive_id: ArchiveId, tier: Tier, doing: str) -> None:
        wanted = {
            "Days": self._requests.bucket.kept_days,
            "GlacierJobParameters": {"Tier": tier.value.capitalize()},
        }
        meaning: dict[str, type[NightvaultError]] = {
            "RestoreAlreadyInProgress": _NotFrozenError,
            "ObjectAlreadyInActiveTierError": _NotFrozenError,
            "InvalidObjectState": _NotFrozenError,
        }
        with suppress(_NotFrozenError):
            self._requests.call_on(
                "restore_object",
                archive_id,
                doing,
                unknown=ArchiveMissingError,
                meaning=meaning,
                RestoreRequest=wanted,
            )

    def open_retrievals(self) -> Mapping[str, RetrievalId]:
        """An empty list: S3 keeps no tokens, and a repeated request is not billed twice."""
        self._requests.require("look for retrievals")
        return {}

    def retrieval_statuses(self, ids: Iterable[RetrievalId]) -> Mapping[RetrievalId, RetrievalStatus]:
        """HeadObject for a few; otherwise lists with RestoreStatus that skip from one wanted key to the
        next."""
        parsed = {retrieval_id: keys.parse_retrieval_id(retrieval_id) for retrieval_id in ids}
        wanted = sorted({place[0] for place in parsed.values() if place})
        if len(wanted) < len(parsed):  # foreign ids: no other request might show that the bucket is missing
            self._requests.require("look for retrievals")
        told: dict[ArchiveId, RetrievalStatus] = {}
        if len(wanted) > FEW:
            locked = self._requests.bucket.lock is not None
            told = self._told_by_versions(wanted) if locked else self._told_by_lists(wanted)
        for key in wanted:
            if key not in told:
                told[key] = self._status(key)
        return {
            retrieval_id: told[place[0]] if place else answers.EXPIRED
            for retrieval_id, place in parsed.items()
        }

    def _told_by_lists(self, wanted: Sequence[ArchiveId]) -> dict[ArchiveId, RetrievalStatus]:
        """Statuses by lists for these sorted keys, but for those on which the lists say nothing, or of
        another object."""
        prefix = self._requests.bucket.prefix
        left, told = list(reversed(wanted)), {}
        while left:
            page = self._requests.call(
                "list_objects_v2",
                "look for retrievals",
                Prefix=prefix,
                StartAfter=prefix + keys.just_before(left[-1]),
                OptionalObjectAttributes=["RestoreStatus"],
            )
            lines = {line["Key"].removeprefix(prefix): line for line in page.get("Contents", ())}
            last = max(lines, default="") if page.get("IsTruncated") else None
            while left and (last is None or left[-1] <= last):
                key = left.pop()
                status = answers.status_of_line(lines[key]) if key in lines else answers.EXPIRED
                if status is not None and not self._requests.is_covered(key):
                    told[key] = status
            if last == "":
                break
        return told

    def _told_by_versions(self, wanted: Sequence[ArchiveId]) -> dict[ArchiveId, RetrievalStatus]:
        """Statuses by a list of versions, from the first to the last of these sorted keys."""
        prefix, left, told = self._requests.bucket.prefix, set(wanted), {}
        lines = self._requests.lines(
            "look for retrievals",
            prefix,
            KeyMarker=prefix + keys.just_before(wanted[0]),
            OptionalObjectAttributes=["RestoreStatus"],
        )
        for line in lines:
            key = ArchiveId(line["Key"].removeprefix(prefix))
            status = answers.status_of_line(line) if key in left else None
            if status is not None:
                told[key] = status
            if key >= wanted[-1]:
                break
        return told

    def _status(self, key: ArchiveId) -> RetrievalStatus:
        try:
            return answers.status_of_head(
                self._requests.head(key, f"look for the retrieval of archive {key}")
            )
        except ArchiveMissingError:
            return answers.EXPIRED

    def fetch(self, retrieval_id: RetrievalId, extent: ByteRange) -> Fetched:
        """GetObject with a range, read completely; S3 has no hash of a range."""
        doing = f"fetch bytes {extent.start} to {extent.end - 1} of retrieval {retrieval_id}"
        parsed = keys.parse_retrieval_id(retrieval_id)
        if parsed is None:
            self._requests.require(doing)
            raise RetrievalExpiredError(f"cannot {doing}: no retrieval from a bucket has such an id")
        key, retrieved = parsed
        if not 0 <= extent.start < extent.end or (retrieved and extent.end > retrieved.length):
            raise VaultError(f"cannot {doing}: they are not within what was retrieved")
        start = (retrieved.start if retrieved else 0) + extent.start
        wanted = ByteRange(start, start + extent.length)
        try:
            data = self._read_first(key, wanted, doing)
        except RetrievalNotReadyError as error:
            if self._status(key).state is RetrievalState.WAITING:
                raise
            raise RetrievalExpiredError(str(error)) from error
        return Fetched(data, None)

    def look_beneath(self, retrieval_id: RetrievalId) -> bool:
        """As of `LooksBeneath`, where the bucket keeps versions."""
        parsed = keys.parse_retrieval_id(retrieval_id)
        return parsed is not None and self._requests.lies_beneath(parsed[0], _BENEATH)

    def _read_first(self, key: ArchiveId, wanted: ByteRange, doing: str) -> bytes:
        """The bytes of what was stored first, if what lies over it is too short."""
        try:
            return self._read(key, wanted, doing)
        except ArchiveShortError:
            if not self._requests.lies_beneath(key, doing):
                raise
        return self._read(key, wanted, doing)

    def _read(self, key: ArchiveId, wanted: ByteRange, doing: str) -> bytes:
        answer = self._requests.call_on(
            "get_object",
            key,
            doing,
            unknown=RetrievalExpiredError,
            meaning={"InvalidRange": ArchiveShortError},
            Range=f"bytes={wanted.start}-{wanted.end - 1}",
        )
        with closing(answer["Body"]) as body, translated_errors(doing):
            given = answers.range_of(answer)
            if given.start == wanted.start and given.end < wanted.end:
                raise ArchiveShortError(f"cannot {doing}: it ends at byte {given.end}")
            if given != wanted:
                raise VaultError(f"cannot {doing}: the answer holds bytes {given.start} to {given.end - 1}")
            data = read_all(body, self._limits.down, wanted.length)
        if len(data) != wanted.length:
            raise VaultError(f"cannot {doing}: {len(data)} bytes came instead")
        return data


def _is_range_of_mib(extent: ByteRange, size: int) -> bool:
    ends = extent.end % MIB == 0 or extent.end == size
    return extent.start % MIB == 0 and ends and 0 <= extent.start < extent.end <= size
