"""The world of several inventories in one vault: catalogs, packs, marks, machines, what may happen how often.

There is one job. A pack holds one chunk, a snapshot needs one; both are numbered as they come. Everything
that is stored gets the next number, its `order`, by which the vault dates it: minutes within a period.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec import Struct

from backup.inventory.content.archives import THERE, ArchiveState
from backup.retention.prune import DEFAULT_GRACE

PERIOD = timedelta(days=4)
START = datetime(2026, 1, 1, tzinfo=UTC)
LOOKS = timedelta(hours=12)
NEVER = -1

SERVER, HEIR, RIVAL, HOSTILE, NOBODY = range(5)
"""Inventories: the server's, two that were rebuilt from it, a hostile one, and one that nobody has."""

NAMES = ("the server", "the heir", "the second heir", "the hostile server", "nobody")

STORED, UNCONFIRMED = ArchiveState.STORED.value, ArchiveState.UNCONFIRMED.value
CONDEMNED, DELETING = ArchiveState.CONDEMNED.value, ArchiveState.DELETING.value
DELETED, LOST = ArchiveState.DELETED.value, ArchiveState.LOST.value
IN_VAULT = frozenset(state.value for state in THERE)

FIRST, DELTA, FULL = range(3)

IMAGE = 9
"""The number of the image among those who write."""

MANY = 99
"""More deltas than any inventory stores; and a period long before the first."""


class Cast(Struct, frozen=True):
    """Who takes part, and how often each thing may happen; `minimum`, `lag` and `floor` are in periods.

    `keeper`: who deletes, the server itself if it never acts. `proof` of an heir: that a recovery key signed
    it ("signed"), that it has the same signing key ("signer"), or none (""). `clocks`: how many periods the
    keeper's clock, and the time of its list, are ahead. `losses`: packs that the vault loses by itself, of
    which another copy is there.
    """

    chunks: int = 2
    packs: int = 3
    nights: int = 2
    forgets: int = 1
    undos: int = 0
    prunes: int = 2
    keeper: int = 0
    periods: int = 3
    heirs: int = 0
    heir_nights: int = 1
    images: int = 0
    image_nights: int = 1
    forgeries: tuple[str, ...] = ()
    forged: int = 0
    answers: int = 0
    crashes: int = 0
    sleeps: int = 0
    sleepers: tuple[str, ...] = ("run", "prune", "keeper")
    skews: int = 0
    minimum: int = 0
    floor: int = 1
    lag: int = 0
    most_deltas: int = 2
    proof: str = "signed"
    losses: int = 0
    undeletes: int = 0
    clocks: tuple[int, int] = (0, 0)
    has_clock: bool = True
    grace: timedelta = DEFAULT_GRACE


class Said(Struct, frozen=True, array_like=True):
    """What one catalog changes. `night` is the pack of a new snapshot; others are packs and snapshots."""

    night: int = NEVER
    condemned: tuple[int, ...] = ()
    taken_up: tuple[int, ...] = ()
    forgotten: tuple[int, ...] = ()
    back: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()


class Night(Struct, frozen=True, array_like=True):
    """A snapshot: the order of its catalog, its pack, and when it was forgotten."""

    order: int
    pack: int
    forgotten: int = NEVER


class Row(Struct, frozen=True, array_like=True):
    """A pack as an inventory has it: when it was condemned by the writer's clock, when that was stored, by
    ours; since when it is taken up."""

    pack: int
    state: str
    said: int = NEVER
    told: int = NEVER
    taken_up: int = NEVER


class Folded(Struct, frozen=True, array_like=True):
    """The state of the job that a full catalog holds."""

    nights: tuple[Night, ...] = ()
    rows: tuple[Row, ...] = ()


class Catalog(Struct, frozen=True, array_like=True):
    """A catalog in the vault: header, label, the vault's date, and what it says.

    `machine` is who really wrote it. `forges`: it copies or makes up headers of packs that are not its own.
    """

    order: int
    period: int
    machine: int
    writer: int
    signer: int
    number: int
    shape: int
    parent: int
    claims: tuple[int, ...]
    is_signed: bool
    label: int
    at: int
    said: Said
    state: Folded | None = None
    forges: bool = False
    is_enrolled: bool = True


class Pack(Struct, frozen=True, array_like=True):
    """A data pack: its inventory, signer and chunk; whether it is there, and was when the period began."""

    writer: int
    signer: int
    chunk: int
    order: int
    period: int
    there: bool
    shown: bool


class Mark(Struct, frozen=True, array_like=True):
    """An heir's mark: for which inventory, of which, with or without a signature that proves it."""

    predecessor: int
    heir: int
    is_proven: bool
    order: int
    period: int


class Asleep(Struct, frozen=True, array_like=True):
    """What a machine goes on with: a catalog that is not sent, one that is and was not recorded, deletions.

    `since`: the period in which it last looked at the vault. `is_sending`: the catalog is on its way.
    """

    said: Said
    sent: int = NEVER
    due: tuple[int, ...] = ()
    since: int = 0
    is_sending: bool = False


class Machine(Struct, frozen=True, array_like=True):
    """A machine with an inventory: the catalogs it knows, the last one's number, packs, snapshots.

    `passed` are catalogs, `answered` inventories that a person said to ignore. `deltas` since its last full.
    `began`: the period in which a rebuilt one first stored something.
    """

    inventory: int
    is_image: bool
    ancestors: tuple[int, ...]
    signer: int
    head: int = NEVER
    number: int = 0
    deltas: int = 0
    known: tuple[int, ...] = ()
    rows: tuple[Row, ...] = ()
    nights: tuple[Night, ...] = ()
    ahead: int = 0
    is_marked: bool = False
    began: int = NEVER
    passed: tuple[int, ...] = ()
    answered: tuple[int, ...] = ()
    asleep: Asleep | None = None


class World(Struct, frozen=True, array_like=True):
    """Everything. Catalogs are numbers of the model's own list; `keeper` is what one that sleeps decided."""

    period: int
    order: int
    catalogs: tuple[int, ...]
    packs: tuple[Pack, ...]
    marks: tuple[Mark, ...]
    machines: tuple[Machine, ...]
    image: Machine | None
    keeper: tuple[int, tuple[int, ...]] | None
    answers: tuple[int, ...]
    spent: tuple[int, ...]


KINDS = (
    "nights", "forgets", "undos", "prunes", "keeper", "heirs", "heir_nights", "images", "image_nights",
    "forged", "answers", "crashes", "sleeps", "skews", "losses", "undeletes",
)  # fmt: skip


def dated(period: int, order: int) -> datetime:
    """The vault's date of what was stored."""
    return START + period * PERIOD + timedelta(minutes=order)


def said_at(period: int, order: int) -> datetime:
    """The time that a writer's clock shows as it stores something."""
    return dated(period, order)


def now(period: int) -> datetime:
    """The time at which decisions of a period are made: after all that was stored in it."""
    return START + period * PERIOD + LOOKS
