"""The recovery line: one line of text from which a bare machine finds a job's newest state in a vault.

    NVL1,VAULT,JOB,INVENTORY,JOB-ID,NUMBER,HEADER-HASH,DELTA,SIZE,FULL,SIZE,CHECK

Ids and hashes are lower-case hex; DELTA and FULL are the vault's archive ids of the newest delta and full
catalog, SIZE their bytes; NUMBER and HEADER-HASH are the delta's. CHECK is 8 hex digits of SHA-256 over
everything before its comma. Special characters are escaped as in URLs, so a line holds no white space: a
reader drops any that a mail or a printer put in. No field is secret; none is trusted before a signature
vouches for it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator

from msgspec import Struct

from backup.errors import UsageError
from backup.model import ArchiveId, InventoryId, JobName, VaultName

MARK = "NVL1"

_PLAIN = "/:+=@"  # beside letters, digits and _.-~
_NEEDS_NONE = re.compile(rf"[A-Za-z0-9_.~{_PLAIN}-]*")
_SPACE = re.compile(r"\s+")
_FIELDS = 11
_CHECK = 8
_ADVICE = "copy the whole line, from NVL1 to its last digit, as a backup's report ended with it"


class CatalogAddress(Struct, frozen=True):
    """A catalog's address: the vault's id of its archive, and its size in bytes."""

    archive_id: ArchiveId
    size: int


class RecoveryLine(Struct, frozen=True):
    """A job's state after one run; `full` is None as long as no full catalog was stored."""

    vault: VaultName
    job: JobName
    inventory_id: InventoryId
    job_id: bytes
    number: int
    header_hash: bytes
    delta: CatalogAddress
    full: CatalogAddress | None

    def to_text(self) -> str:
        """The line, without a line end."""
        full = (self.full.archive_id, str(self.full.size)) if self.full else ("", "0")
        fields = [
            MARK,
            self.vault,
            self.job,
            self.inventory_id.hex(),
            self.job_id.hex(),
            str(self.number),
            self.header_hash.hex(),
            self.delta.archive_id,
            str(self.delta.size),
            *full,
        ]
        text = ",".join(map(_escaped, fields))
        return f"{text},{_check(text)}"

    @classmethod
    def from_text(cls, text: str) -> RecoveryLine:
        """Parse a line that was copied, mailed or typed. `UsageError` when a character is wrong."""
        text = _SPACE.sub("", text)
        body, _, check = text.rpartition(",")
        if not body.startswith(MARK + ","):
            raise UsageError(f"this is no recovery line: it does not begin with {MARK}", advice=_ADVICE)
        if not hmac.compare_digest(_check(body).encode(), check.lower().encode("utf-8", "replace")):
            raise UsageError(
                "this recovery line is not as it was printed: a character is wrong", advice=_ADVICE
            )
        try:
            return cls._of(body.split(","))
        except ValueError as error:
            raise UsageError(f"this recovery line cannot be read: {error}", advice=_ADVICE) from error

    @classmethod
    def _of(cls, fields: list[str]) -> RecoveryLine:
        if len(fields) != _FIELDS:
            raise ValueError(f"it has {len(fields)} fields instead of {_FIELDS}")
        from urllib.parse import unquote

        _, vault, job, inventory, job_id, number, header_hash, delta, size, full, full_size = map(
            unquote, fields
        )
        sized = bytes.fromhex(inventory), bytes.fromhex(job_id), bytes.fromhex(header_hash)
        if tuple(map(len, sized)) != (16, 16, 32) or not delta:
            raise ValueError("an id has the wrong length")
        return cls(
            VaultName(vault),
            JobName(job),
            InventoryId(sized[0]),
            sized[1],
            int(number),
            sized[2],
            CatalogAddress(ArchiveId(delta), int(size)),
            CatalogAddress(ArchiveId(full), int(full_size)) if full else None,
        )


def _escaped(field: str) -> str:
    if _NEEDS_NONE.fullmatch(field):
        return field
    from urllib.parse import quote  # seldom, and not made for every night's start

    return quote(field, safe=_PLAIN)


def find_lines(text: str) -> Iterator[str]:
    """The recovery lines in a text, unparsed: a file, or a mail that wrapped them. Skips comment lines."""
    kept = "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith("#"))
    for piece in _SPACE.sub("", kept).split(f"{MARK},")[1:]:
        fields = piece.split(",", _FIELDS - 1)
        yield ",".join([MARK, *fields[:-1], fields[-1][:_CHECK]])  # whatever follows the check is other text


def _check(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:_CHECK]
