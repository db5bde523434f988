"""Tells a center how this server is: the report is recorded first, then sent until it was answered.

A report that was not answered is sent again as it was, so that it counts once. Where a center has seen its
number, or misses one before it, a new chain begins that names the old one: once for each call.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any

import msgspec
from cryptography.x509.oid import NameOID
from msgspec import Struct
from msgspec.structs import replace

from backup import __version__
from backup.app.base.opened import opened
from backup.app.base.vaults import identity_files
from backup.app.telling.ways import TellingWay, way_to
from backup.config import Config
from backup.credentials.certificate import subject_values
from backup.errors import NoInventoryError
from backup.format.host_report import (
    HostReport,
    JoinRequest,
    changes_between,
    shortened,
    written_report,
)
from backup.inventory.records.center_chains import ToldChain, remove_chains, told_chain, write_chain
from backup.inventory.store.database import Inventory
from backup.notify.channel import ConflictError
from backup.protocols import Clock

if TYPE_CHECKING:
    from backup.credentials.identity_paths import IdentityFiles

_SECONDS = JOIN_SECONDS = 60.0
_LOCK = "center"


class ToldCenter(Struct, frozen=True):
    """What a center knows now: the chain and the number in it; `began_anew` if it is a new chain."""

    center: str
    chain: str
    number: int
    began_anew: bool


def tell_center(
    config: Config,
    clock: Clock,
    url: str,
    document: Mapping[str, Any],
    *,
    ca_file: str | None = None,
    seconds: float = _SECONDS,
) -> ToldCenter:
    """Tell the center at `url` what changed since it was told last; first what it has not answered yet.

    Each request takes at most `seconds`. `AwayError` if it is to be told later, `NightvaultError` if it
    refuses this server, `UsageError` for an address that is none, `IdentityError`.
    """
    from backup.credentials.identity import load_identity

    center = url.rstrip("/")
    holder = load_identity(identity_files(config))
    way = way_to(config, holder, center, clock, ca_file=ca_file, seconds=seconds)
    with closing(opened(config)) as inventory, inventory.locked(_LOCK):
        teller = _Teller(inventory, way, clock, center)
        return teller.tell(shortened(dict(document)))


def join_center(
    config: Config, files: IdentityFiles, clock: Clock, url: str, secret: str, *, ca_file: str | None = None
) -> str:
    """Join a center by the secret of an invitation, as the server that the certificate names: its name.

    It is told all anew from then on. `AwayError`, `NightvaultError` if it refuses, `UsageError`,
    `IdentityError`.
    """
    from backup.credentials.identity import load_identity

    holder, center = load_identity(files), url.rstrip("/")
    way = way_to(config, holder, center, clock, ca_file=ca_file, seconds=JOIN_SECONDS)
    body = msgspec.json.encode(JoinRequest(secret))
    try:
        with closing(opened(config)) as inventory, inventory.locked(_LOCK):
            way.join(body)
            with inventory.writing() as tx:
                remove_chains(tx, center)
    except NoInventoryError:  # a new server: it was told nothing yet
        way.join(body)
    return ", ".join(subject_values(holder.certificate, NameOID.COMMON_NAME))


def forget_center(config: Config) -> None:
    """Forget what centers were told: this server tells none any more."""
    with closing(opened(config)) as inventory, inventory.locked(_LOCK), inventory.writing() as tx:
        remove_chains(tx)


class _Teller(Struct, frozen=True):
    inventory: Inventory
    way: TellingWay
    clock: Clock
    center: str

    def tell(self, whole: dict[str, Any]) -> ToldCenter:
        with self.inventory.reading() as tx:
            known = told_chain(tx, self.center)
        first = known is None
        chain = known or self._new_chain()
        try:
            if chain.report is not None:
                chain = self._send(chain)
            chain = self._send(self._with_report(chain, whole))
        except ConflictError:
            chain = self._send(self._following(chain, whole))
            return ToldCenter(self.center, chain.chain, chain.number, began_anew=True)
        return ToldCenter(self.center, chain.chain, chain.number, began_anew=first)

    def _new_chain(self) -> ToldChain:
        return ToldChain(self.center, self.way.new_chain())

    def _following(self, chain: ToldChain, whole: dict[str, Any]) -> ToldChain:
        """A new chain that names this one; it is recorded before it is told."""
        before = {"before": chain.chain, "before_number": chain.number} if chain.number else {}
        return self._with_report(self._new_chain(), whole, **before)

    def _with_report(self, chain: ToldChain, whole: dict[str, Any], **before: Any) -> ToldChain:
        """Record the next report, with everything that is told in it."""
        report = HostReport(
            chain=chain.chain,
            number=chain.number + 1,
            at=int(self.clock.now().timestamp()),
            program=__version__[:100],
            changes=changes_between(msgspec.json.decode(chain.told), whole),
            **before,
        )
        text, told = written_report(report).decode(), msgspec.json.encode(whole).decode()
        return self._recorded(replace(chain, report=text, then_told=told))

    def _recorded(self, chain: ToldChain) -> ToldChain:
        with self.inventory.writing() as tx:
            write_chain(tx, chain)
        return chain

    def _send(self, chain: ToldChain) -> ToldChain:
        """Send the report that waits, and record that it was answered."""
        self.way.report(chain.chain, chain.number + 1, (chain.report or "").encode())
        told = chain.then_told or "{}"
        return self._recorded(replace(chain, number=chain.number + 1, told=told, report=None, then_told=None))
