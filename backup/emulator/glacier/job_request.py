"""The body of InitiateJob: read, checked, and made a value; pure.

Source: Developer Guide, api-jobParameters and api-InventoryRetrievalJobInput. On the wire the bare object
comes, not the `jobParameters` wrapper of the guide's syntax box.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from backup.emulator.core.errors import ServiceError, invalid, missing
from backup.emulator.core.http.json_body import json_object, text
from backup.emulator.core.wire import parse_date

DESCRIPTION_LIMIT = 1024
_PRINTABLE = re.compile(r"[\x20-\x7e]*")
_BYTE_RANGE = re.compile(r"(\d{1,15})-(\d{1,15})")
_MARKER = re.compile(r"from-(\d{1,15})")


class InventoryPage(Struct, frozen=True):
    """The requested part of an inventory: the texts as given, and their meaning."""

    start_date: str | None = None
    end_date: str | None = None
    limit: int | None = None
    marker: str | None = None

    @property
    def start_ms(self) -> int | None:
        """Inclusive."""
        return None if self.start_date is None else parse_date(self.start_date)

    @property
    def end_ms(self) -> int | None:
        """Exclusive."""
        return None if self.end_date is None else parse_date(self.end_date)

    @property
    def first(self) -> int:
        """The number of the first archive of this page."""
        return 0 if self.marker is None else int(self.marker.removeprefix("from-"))


class JobRequest(Struct, frozen=True):
    """A wanted job: `archive_id`, `tier` and `byte_range` (inclusive) for an archive, else `format` and
    `page`.
    """

    is_inventory: bool
    description: str | None
    sns_topic: str | None
    archive_id: str = ""
    tier: str | None = None
    byte_range: tuple[int, int] | None = None
    format: str | None = None
    page: InventoryPage = InventoryPage()


def parse_job_request(body: bytes) -> JobRequest:
    """Read the body; SerializationException for broken JSON, 400 for every wrong or missing field."""
    raw = json_object(body)
    kind = text(raw, "Type")
    if kind is None:
        raise missing("Required parameter missing: Type")
    if kind == "archive-retrieval":
        return _archive_job(raw)
    if kind == "inventory-retrieval":
        return _inventory_job(raw)
    raise invalid(f"Invalid job type: {kind}")


def _description(raw: Mapping[str, object]) -> str | None:
    given = text(raw, "Description")
    if given is not None and (len(given) > DESCRIPTION_LIMIT or not _PRINTABLE.fullmatch(given)):
        raise invalid("Invalid job description: up to 1024 characters from 0x20 to 0x7E are allowed.")
    return given


def _archive_job(raw: Mapping[str, object]) -> JobRequest:
    archive_id = text(raw, "ArchiveId")
    if not archive_id:
        raise missing("Required parameter missing: ArchiveId")
    for key in ("Format", "InventoryRetrievalParameters"):
        if raw.get(key) is not None:
            raise invalid(f"{key} is not allowed for an archive-retrieval job.")
    tier = text(raw, "Tier") or "Standard"
    if tier not in ("Expedited", "Standard", "Bulk"):
        raise invalid(f"Invalid tier: {tier}")
    return JobRequest(
        is_inventory=False,
        description=_description(raw),
        sns_topic=text(raw, "SNSTopic"),
        archive_id=archive_id,
        tier=tier,
        byte_range=_byte_range(text(raw, "RetrievalByteRange")),
    )


def _byte_range(wanted: str | None) -> tuple[int, int] | None:
    if wanted is None:
        return None
    found = _BYTE_RANGE.fullmatch(wanted)
    if found is None or int(found[2]) < int(found[1]):
        raise invalid(f"Invalid retrieval byte range: {wanted}")
    return int(found[1]), int(found[2])


def _inventory_job(raw: Mapping[str, object]) -> JobRequest:
    for key in ("ArchiveId", "RetrievalByteRange", "Tier"):
        if raw.get(key) is not None:
            raise invalid(f"{key} is not allowed for an inventory-retrieval job.")
    wanted = text(raw, "Format") or "JSON"
    if wanted not in ("JSON", "CSV"):
        raise invalid(f"Invalid format: {wanted}")
    parameters = raw.get("InventoryRetrievalParameters")
    if parameters is not None and not isinstance(parameters, dict):
        raise ServiceError("SerializationException", "InventoryRetrievalParameters must be an object.")
    return JobRequest(
        is_inventory=True,
        description=_description(raw),
        sns_topic=text(raw, "SNSTopic"),
        format=wanted,
        page=_page(parameters or {}),
    )


def _page(raw: Mapping[str, object]) -> InventoryPage:
    limit = raw.get("Limit")
    if isinstance(limit, int):
        limit = str(limit)
    if limit is not None and (not isinstance(limit, str) or not re.fullmatch(r"0*[1-9]\d{0,8}", limit)):
        raise invalid(f"Invalid inventory limit: {limit}")
    marker = text(raw, "Marker")
    if marker is not None and not _MARKER.fullmatch(marker):
        raise invalid(f"Invalid inventory marker: {marker}")
    return InventoryPage(
        _date(raw, "StartDate"), _date(raw, "EndDate"), None if limit is None else int(limit), marker
    )


def _date(raw: Mapping[str, object], key: str) -> str | None:
    given = text(raw, key)
    if given is None:
        return None
    try:
        parse_date(given)
    except (ValueError, TypeError) as error:
        raise invalid(f"Invalid {key}: {given}") from error
    return given
