"""The places of entries' bytes: vaults, storage classes, and until when they are readable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from backup.app.money.prices import known_table
from backup.app.money.stats import terms_of
from backup.config import Config
from backup.format.rows import unpack_u32
from backup.inventory.questions import browsing
from backup.inventory.questions.browsing import HeldChunk, Output
from backup.inventory.store.connections import Transaction
from backup.inventory.store.times import micros, moment
from backup.model import PackKind, VaultName
from backup.web.views.values.browse import Place

COLD = {"glacier", "s3:GLACIER", "s3:DEEP_ARCHIVE"}
"""Classes whose archives must be made readable first."""
MOST_CHUNKS = 10_000
MOST_BYTES = 4 * MOST_CHUNKS
Ready = dict[tuple[int, int], int]
"""Until when frames, by archive and number, are readable that a vault has made so."""


def places_of(tx: Transaction, config: Config, now: datetime, lists: Iterable[bytes]) -> list[Place]:
    """Return the places of the chunks in these lists; only the first 10,000 chunks count."""
    held = browsing.held_chunks(tx, numbers_in(lists))
    return summed(config, held, readable(tx, now, held))


def numbers_in(lists: Iterable[bytes]) -> list[int]:
    """Return the chunk numbers in packed lists, without duplicates, sorted; at most 10,000."""
    found: dict[int, None] = {}
    for packed in lists:
        room = MOST_CHUNKS - len(found)
        if room <= 0:
            break
        found.update(dict.fromkeys(unpack_u32(packed[: 4 * room])))
    return sorted(found)


def summed(config: Config, chunks: Sequence[HeldChunk], ready: Ready) -> list[Place]:
    """Return the chunks summed up by vault and storage class; `ready` is the result of `readable`."""
    grouped: dict[tuple[str, str], list[HeldChunk]] = {}
    for chunk in chunks:
        grouped.setdefault((chunk.vault, class_of(config, chunk.vault, chunk.kind)), []).append(chunk)
    return [_place(vault, name, chunks_of, ready) for (vault, name), chunks_of in sorted(grouped.items())]


def class_of(config: Config, vault: str, kind: int) -> str:
    """Return the storage class of a vault's packs of a kind; "unknown" if the vault is not in the config."""
    settings = next((candidate for candidate in config.vaults if candidate.name == vault), None)
    if settings is None:
        return "unknown"
    return terms_of(config, known_table(config), settings).classes[PackKind(kind)]


def _place(vault: str, name: str, chunks: Sequence[HeldChunk], ready: Ready) -> Place:
    is_cold = name in COLD
    until = [ready.get((chunk.archive, chunk.frame)) for chunk in chunks] if is_cold else []
    known = [timestamp for timestamp in until if timestamp is not None]
    return Place(
        vault=VaultName(vault),
        storage_class=name,
        archives=len({chunk.archive for chunk in chunks}),
        bytes=sum(chunk.bytes for chunk in chunks),
        needs_thaw=is_cold,
        thawed_until=moment(min(known)) if known and len(known) == len(until) else None,
    )


def readable(tx: Transaction, now: datetime, chunks: Sequence[HeldChunk]) -> Ready:
    """Return until when each frame is readable, of those that the vault has made readable."""
    if not chunks:
        return {}
    found: dict[int, list[Output]] = {}
    for output in browsing.outputs(tx, sorted({chunk.archive for chunk in chunks}), micros(now)):
        found.setdefault(output.archive, []).append(output)
    ready: Ready = {}
    for held in chunks:
        if held.offset is None or held.length is None or (held.archive, held.frame) in ready:
            continue
        end = held.offset + held.length
        outputs = found.get(held.archive, ())
        ends = [output.until for output in outputs if output.start <= held.offset and end <= output.end]
        if ends:
            ready[held.archive, held.frame] = max(ends)
    return ready
