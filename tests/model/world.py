"""The world of a server's nights: archives, snapshots, processes, catalogs, and what may happen how often.

Time passes in periods of four days, one more than the grace. Chunks and archives are numbered as they come,
so that of states that differ in names alone one is searched.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TypeVar

from msgspec import Struct

from backup.inventory.content.archives import THERE, ArchiveState
from backup.retention.prune import DEFAULT_GRACE
from tests.model.plain import Place

T = TypeVar("T")

PERIOD = timedelta(days=4)
START = datetime(2026, 1, 1, tzinfo=UTC)
BEFORE = timedelta(hours=1)
NEVER = -1
NEW = -2
"""The archive in which chunks will lie that are to be sent."""

STORED, UNCONFIRMED = ArchiveState.STORED.value, ArchiveState.UNCONFIRMED.value
CONDEMNED, DELETING = ArchiveState.CONDEMNED.value, ArchiveState.DELETING.value
DELETED, LOST, SUBMITTED = ArchiveState.DELETED.value, ArchiveState.LOST.value, ArchiveState.SUBMITTED.value
RETIRED = ArchiveState.RETIRED.value
IN_VAULT = frozenset(state.value for state in THERE)
READABLE = IN_VAULT - {DELETING}

DECIDED, DELETES, RECORDS, SAYS, SENDS, APPLIES = range(6)
"""Where a process is: it has decided; deletes, and records that; submits, sends and applies a catalog."""


class Cast(Struct, frozen=True):
    """What may happen, and how often; `minimum` and `lag` (of the vault's list) are in periods.

    `cut`: the processes that may die or be suspended, if not all.
    """

    jobs: int = 2
    chunks: int = 3
    archives: int = 4
    snapshots: int = 2
    backups: int = 3
    forgets: int = 2
    undos: int = 1
    prunes: int = 3
    periods: int = 4
    crashes: int = 1
    sleeps: int = 1
    restores: int = 1
    faults: int = 1
    jumps: int = 0
    retires: int = 0
    minimum: int = 0
    lag: int = 0
    cut: str = ""
    grace: timedelta = DEFAULT_GRACE


class Row(Struct, frozen=True, array_like=True):
    """An archive: what the vault has (the first five), and what the inventory says of it.

    `shown`: it was there when the period began; `dying`: the vault accepted its deletion, and has not carried
    it out. `maker`: the job whose run stored it; `is_open`: that run may still come true. `condemned`: by job
    when its catalog says, when it was stored by our clock, and by the vault's.
    """

    chunks: tuple[int, ...]
    stored: int
    there: bool
    shown: bool
    dying: bool
    state: str
    maker: int
    is_open: bool
    jobs: tuple[int, ...] = ()
    condemned: tuple[tuple[int, int, int, int], ...] = ()
    taken_up: int = NEVER
    retry: int = NEVER


class Night(Struct, frozen=True, array_like=True):
    """A snapshot: job, number, where its chunks lie, and when it was forgotten by the vault's clock."""

    job: int
    number: int
    places: tuple[Place, ...]
    forgotten: int = NEVER


class Effect(Struct, frozen=True, array_like=True):
    """What one catalog says, made true once it is stored; `places` are those of a new snapshot.

    `head`: how many catalogs of its job came before it, as far as its writer knew.
    """

    job: int
    number: int = NEVER
    places: tuple[Place, ...] = ()
    condemned: tuple[int, ...] = ()
    taken_up: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()
    forgotten: tuple[int, ...] = ()
    back: tuple[int, ...] = ()
    retired: tuple[int, ...] = ()
    at: int = 0
    head: int = 0
    is_stored: bool = False


class Worker(Struct, frozen=True, array_like=True):
    """A process that holds the lock, or held it while it slept: where it is, and what it remembers."""

    kind: str
    stage: int
    fence: int
    asleep: bool
    job: int = 0
    places: tuple[Place, ...] = ()
    fresh: tuple[int, ...] = ()
    due: tuple[int, ...] = ()
    effects: tuple[Effect, ...] = ()
    marks: tuple[object, ...] = ()


class World(Struct, frozen=True, array_like=True):
    """Everything: `spent` counts what happened, `heads` the catalogs of each job in the vault.

    `now` is the vault's clock, ours is `ahead` of it.
    """

    now: int
    ahead: int
    rows: tuple[Row, ...]
    nights: tuple[Night, ...]
    pending: tuple[Effect, ...]
    workers: tuple[Worker, ...]
    fence: int
    heads: tuple[int, ...]
    reads: tuple[tuple[int, int], ...]
    spent: tuple[int, ...]


KINDS = (
    "backups", "forgets", "undos", "prunes", "crashes", "sleeps", "restores", "faults", "jumps", "retires",
)  # fmt: skip


def put(items: tuple[T, ...], number: int, item: T) -> tuple[T, ...]:
    """The items with another one at a place."""
    return (*items[:number], item, *items[number + 1 :])


def at(period: int) -> datetime:
    """The time at which a period begins."""
    return START + period * PERIOD


def newest(world: World, job: int) -> Night | None:
    """The newest snapshot of a job, forgotten or not."""
    return max(
        (night for night in world.nights if night.job == job), key=lambda night: night.number, default=None
    )


def name(night: Night) -> str:
    """What a story calls a snapshot."""
    return f"snapshot {night.number} of job {night.job}"


def says(effect: Effect) -> str:
    """What a story tells of a catalog."""
    told = [f"a snapshot at {effect.places}"] if effect.number >= 0 else []
    for word in ("condemned", "taken_up", "dropped", "forgotten", "back", "retired"):
        if numbers := getattr(effect, word):
            told.append(f"{word.replace('_', ' ')} {numbers}")
    return ", ".join(told)
