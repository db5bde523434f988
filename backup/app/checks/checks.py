"""Contexts and quotes of checks, made from a config."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import asdict

from backup.app.base.run_context import RunContext
from backup.app.base.state import State
from backup.app.base.vaults import Purpose
from backup.app.money.prices import Quote, kind_of, price_of, priced, tiers_of
from backup.app.restores.contexts import TO_FETCH, link_speed
from backup.checker.context import CheckContext
from backup.checker.read_sample import Piece
from backup.config import Config, VaultSettings
from backup.cost import Load
from backup.format.keys import RecoveryKey
from backup.format.treehash import aligned_pieces
from backup.memory import fetched_piece
from backup.model import Tier, VaultName
from backup.protocols import VaultTraits
from backup.restorer.ranges import RangePlan
from backup.transfer.retrieve import PIECE
from backup.transfer.succession import Successors


def check_context(
    at: RunContext, vault: VaultName, *, keys: Sequence[RecoveryKey] = (), tier: Tier | None = None
) -> CheckContext:
    """The context of a check of a vault, with the rights of a restore."""
    config, run = at.config, at.of_vault(vault, Purpose.RESTORE)
    return CheckContext(
        **asdict(run),
        secret=State(config.state_dir).read_secret(),
        keys=keys,
        tier=tier or config.vault(vault).tier,
        askers=max(8, run.vault.traits.requests_at_once),
        piece=fetched_piece(config.limits.memory),
        round_bytes=int(TO_FETCH.total_seconds() * link_speed(config, at.inventory)),
        successors=Successors(
            [enrolment.key for enrolment in State(config.state_dir).read_signed_enrolments().values()],
            at.inventory.signer_public,
            b"",
        ),
    )


def quote_sample(
    config: Config, settings: VaultSettings, traits: VaultTraits, pieces: Sequence[Piece]
) -> list[Quote]:
    """Return a quote for reading these pieces, for each tier that the vault has."""
    price = price_of(config, settings)
    kind = kind_of(settings)
    load = _load_of(pieces)
    ranges = [RangePlan(piece.archive, piece.asked, ()) for piece in pieces]
    days = settings.retrieval_days if settings.kind == "s3" else 0
    tiers = tiers_of(price, kind, traits)
    return [priced(tier, load, ranges, price, kind, copy_days=days) for tier in tiers]


def _load_of(pieces: Sequence[Piece]) -> Load:
    """The load of a sample, of which everything retrieved is fetched."""
    size = sum(piece.asked.length for piece in pieces)
    return Load(
        archives=len({piece.archive for piece in pieces}),
        requests=len(pieces),
        wanted=size,
        retrieved=size,
        fetched=size,
        downloads=sum(1 for piece in pieces for _ in aligned_pieces(piece.asked, piece.size, PIECE)),
    )
