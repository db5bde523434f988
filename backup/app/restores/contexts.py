"""Contexts of restores, made from a config, and the download speed of archives."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import cast

from msgspec import Struct
from msgspec.structs import asdict, replace

from backup.app.base.malloc import share_freed_memory
from backup.app.base.run_context import RunContext
from backup.app.base.state import State
from backup.app.base.vaults import Purpose
from backup.app.money.limits import cost_of_more
from backup.app.money.prices import price_of
from backup.config import Config
from backup.cores import usable_cores
from backup.cost import Load
from backup.errors import TargetError, UsageError, VaultMissingError
from backup.inventory.content import copied
from backup.inventory.content.snapshots import Snapshot
from backup.inventory.records import retrievals, runs
from backup.inventory.store.database import Inventory
from backup.memory import LEAST_CACHE, fetched_piece, file_makers, frame_openers
from backup.model import KIB, MIB, VaultName
from backup.protocols import Vault
from backup.restorer.context import RestoreContext
from backup.restorer.places import JoinedVaults
from backup.wording import shown_path

TO_FETCH = timedelta(hours=12)
"""The time in which a round of retrievals is fetched: half of the day that outputs last at least."""
LEAST_MEASURED = 64 * MIB
GUESSED_LINK = 4.0 * MIB
_GIB = 1024 * MIB


def restore_context(at: RunContext, vault: VaultName) -> RestoreContext:
    """Return the context of a restore from a vault."""
    share_freed_memory(MIB)
    config, run = at.config, at.of_vault(vault, Purpose.RESTORE)
    at.inventory.connections.keep_less(LEAST_CACHE // KIB)  # a plan reads each page once
    cores = usable_cores(config.limits.cores)
    state = State(config.state_dir)
    return RestoreContext(
        **asdict(run),
        secret=state.read_secret(),
        key_directory=state.restores,
        askers=run.vault.traits.requests_at_once,
        spared=(
            config.state_dir,
            state.spool,
            *(os.fspath(vault.path) for vault in config.vaults if vault.path),
        ),
        piece=fetched_piece(config.limits.memory),
        openers=frame_openers(config.limits.memory, cores),
        makers=file_makers(config.limits.memory, cores),
        round_bytes=int(TO_FETCH.total_seconds() * link_from(config, at.inventory, vault).speed),
    )


def context_of_snapshot(
    at: RunContext,
    snapshot: Snapshot,
    from_vault: VaultName | None = None,
    *,
    passes_missing: bool = False,
) -> RestoreContext:
    """Return the context of a restore of a snapshot from `from_vault`; else from the cheapest that has it.

    A directory comes first, then what answers at once; of two alike the one whose retrievals cost less, and
    of two that cost the same, or where a price is not known, the job's own. What lies there no more is read
    from another one. `UsageError` if nothing was copied into `from_vault`; `VaultMissingError` if the
    directory is not there: it may be a disk to mount, so a vault that may cost money is not taken unasked;
    unless `passes_missing`, for what is quoted first.
    """
    with at.inventory.reading() as tx:
        home = runs.vault_of_job(tx, snapshot.job_number)
        having = copied.vaults_with(tx, snapshot.job_number, snapshot.number)
        is_known = from_vault is None or from_vault == home or copied.has_copies(tx, from_vault)
    if not is_known:
        raise UsageError(
            f"nothing of job {snapshot.job} was copied into vault {from_vault}",
            advice="`nightvault copy` makes copies; without --from-vault the vault is chosen",
        )
    if from_vault is None:
        configured = {VaultName(vault.name) for vault in at.config.vaults}
        among = [vault for vault in (home, *having) if vault in configured] or [home]
        if len(among) == 1:
            return context_of_restore(at, home, among[0])
        first, *others = _cheapest_first(at, among)
        if passes_missing:
            first = next((vault for vault in (first, *others) if not _lacks_directory(at, vault)), first)
        else:
            _require_directory(at, first, others)
        from_vault = first
    return context_of_restore(at, home, from_vault)


def _require_directory(at: RunContext, vault: VaultName, others: Sequence[VaultName]) -> None:
    """`VaultMissingError` if the vault is a directory that is not there; it names the other vaults."""
    if _lacks_directory(at, vault):
        which = " or ".join(f"`--from-vault {name}`" for name in others)
        raise VaultMissingError(
            f"vault {vault} is not there: {at.config.vault(vault).path}",
            advice=f"mount its disk, or read a copy: {which}",
        )


def _lacks_directory(at: RunContext, vault: VaultName) -> bool:
    """Whether a vault is a directory, and not there."""
    is_directory = at.config.vault(vault).kind == "directory"
    return is_directory and not at.of_vault(vault, Purpose.RESTORE).vault.state().exists


def _cheapest_first(at: RunContext, among: Sequence[VaultName]) -> list[VaultName]:
    """Vaults, the cheapest and fastest to read first; those that are alike as they were."""

    def cost_class(vault: VaultName) -> tuple[bool, bool]:
        traits = at.of_vault(vault, Purpose.RESTORE).vault.traits
        return traits.waits, at.config.vault(vault).kind != "directory"

    costs = {vault: _cost_of_a_gib(at.config, vault) for vault in among}
    known = [cost for cost in costs.values() if cost is not None]
    if len(known) < len(costs):
        return sorted(among, key=cost_class)
    return sorted(among, key=lambda vault: (cost_class(vault), costs[vault]))


def _cost_of_a_gib(config: Config, name: VaultName) -> Decimal | None:
    """The cost of retrieving a GiB with the vault's usual tier; None if its prices are not known."""
    vault = config.vault(name)
    if vault.kind == "directory":
        return Decimal(0)
    price = price_of(config, vault)
    load = Load(archives=1, requests=1, wanted=_GIB, retrieved=_GIB, fetched=_GIB, downloads=1)
    days = vault.retrieval_days if vault.kind == "s3" else 0
    bill = None if price is None else price.retrieving(load, vault.tier, copy_days=days)
    return None if bill is None else bill.total


def context_of_restore(at: RunContext, home: VaultName, first: VaultName) -> RestoreContext:
    """Return the context of a restore of a job in vault `home`, from `first` and all that have copies."""
    context = restore_context(at, first)
    with at.inventory.reading() as tx:
        names = [VaultName(vault.name) for vault in at.config.vaults]
        others = [name for name in names if name != home and copied.has_copies(tx, name)]
    if not others:
        return context
    some = [name for name in names if name in {home, first, *others}]
    makes: dict[VaultName, Callable[[], Vault]] = {
        name: partial(_vault_to_read, at, name) for name in some if name != first
    }
    joined = JoinedVaults({first: lambda: context.vault, **makes}, home=home, first=first)
    cost_of = partial(cost_of_more, at.config)
    return replace(context, vault=cast("Vault", joined), joined=joined, cost_of=cost_of)


def context_of_vault(at: RunContext, vault: VaultName) -> RestoreContext:
    """Return the context of a restore from one vault and no other, of what was copied into it, too."""
    context = restore_context(at, vault)
    with at.inventory.reading() as tx:
        has_copies = copied.has_copies(tx, vault)
    if not has_copies:
        return context
    joined = JoinedVaults({vault: lambda: context.vault}, home=vault, first=vault)
    return replace(context, vault=cast("Vault", joined), joined=joined)


def _vault_to_read(at: RunContext, name: VaultName) -> Vault:
    return at.of_vault(name, Purpose.RESTORE).vault


def refuse_own(config: Config, *places: bytes) -> None:
    """`TargetError` if a path is, or lies in, the state directory or a vault's directory.

    There a restore could replace or remove backups, keys, or the inventory. Paths are compared by device and
    inode, so another path to the same directory counts, too; they need not exist yet.
    """
    own: dict[tuple[int, int], str] = {}
    vaults = [(vault.path, f"vault {vault.name}") for vault in config.vaults if vault.path]
    for directory, what in [(config.state_dir, "the state directory"), *vaults]:
        with suppress(OSError):
            own.setdefault(_place(directory), f"{what}, {directory}")
    for place in places:
        path = os.path.realpath(place)
        for step in (path, *_above(path)):
            with suppress(OSError, KeyError):
                told = f"{'is' if step == path else 'lies in'} {own[_place(step)]}"
                raise TargetError(
                    f"{shown_path(place)} {told}: nothing is restored into what nightvault itself uses",
                    advice="choose another --target",
                )


def _place(path: str | bytes) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _above(path: bytes) -> Iterator[bytes]:
    """The directories above a path, up to the root."""
    while (up := os.path.dirname(path)) != path:
        yield up
        path = up


class LinkOrigin(StrEnum):
    """The source of a link's speed; part of the JSON interface."""

    SET = "set"
    MEASURED = "measured"
    ASSUMED = "assumed"
    LIMITED = "limited"


class Link(Struct, frozen=True):
    """The download speed for a vault's archives: `speed` in bytes a second, and the source of that figure."""

    speed: float
    origin: LinkOrigin


def link_from(config: Config, inventory: Inventory, vault: VaultName) -> Link:
    """Return the link, or the vault's own lowest limit if that is lower."""
    link = _link(config, inventory)
    limit = min((window.limit for window in config.vault(vault).download_limit), default=None)
    return link if limit is None or limit >= link.speed else Link(float(limit), LinkOrigin.LIMITED)


def link_speed(config: Config, inventory: Inventory) -> float:
    """Return the bytes per second that are fetched from vaults."""
    return _link(config, inventory).speed


def _link(config: Config, inventory: Inventory) -> Link:
    if config.restore.link is not None:
        return Link(float(config.restore.link), LinkOrigin.SET)
    with inventory.reading() as tx:
        measured = retrievals.restore_speed(tx, least=LEAST_MEASURED)
    if measured is None:
        return Link(GUESSED_LINK, LinkOrigin.ASSUMED)
    return Link(measured, LinkOrigin.MEASURED)
