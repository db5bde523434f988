"""`prune --delete-only`: deletes in place of servers, with a recovery key, and shows the outcome."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from backup.cli.options.accepting import who_answers
from backup.cli.support.choosing_vault import Result
from backup.cli.support.context import Cli
from backup.cli.support.operating import step_loop
from backup.cli.support.stopping import stop_on_signals
from backup.errors import ExitCode
from backup.inventory.store.states import StepStage
from backup.model import Tier

if TYPE_CHECKING:
    from backup.config import VaultSettings
    from backup.format.keys import RecoveryKey
    from backup.pruner.keeper.report import InventoryReport, KeeperReport, Share
    from backup.transfer.retry import RetryLimit

_LOOK = """\
is it what you told the server to do? Then there is nothing to do; it is told until the floor is over.
If not, the server may be in strange hands: docs/who-deletes.md. To look, on a machine
that you trust:
  nightvault rebuild --inventory {inventory} --key FILE
  nightvault snapshots; nightvault snapshots --forgotten"""


class DeleteOnly(Struct, frozen=True):
    """The options of `prune --delete-only`, as given on the command line."""

    keys: Sequence[RecoveryKey]
    keep_within: str | None
    tier: str | None
    dry_run: bool
    accepted: Sequence[str] = ()


def delete_only(cli: Cli, wish: DeleteOnly, settings: VaultSettings, *, stays: bool) -> Result:
    """Delete the archives that servers condemned in a vault; exit code 17: it waits, 3: look into it."""
    from backup.app.base.clock import naming_emulator
    from backup.app.retention.keeper import keeper_context
    from backup.pruner.keeper.keep import keep

    progress = cli.progress()
    with stop_on_signals() as stop:
        context = keeper_context(
            cli.config(),
            settings.name,
            wish.keys,
            clock=cli.clock,
            progress=progress,
            stop=stop.is_set,
            keep_within=wish.keep_within,
            tier=Tier(wish.tier) if wish.tier else None,
            accept=wish.accepted,
            who=who_answers(),
        )

        def step(retry_limit: RetryLimit) -> KeeperReport:
            with naming_emulator(settings):
                return keep(context.within(retry_limit), only_plan=wish.dry_run)

        report = step_loop(cli, step, progress, stays=stays or settings.kind == "directory")
    return _result(cli, report)


def _result(cli: Cli, report: KeeperReport) -> Result:
    from backup.cli.render.render import printable

    if report.state is not StepStage.DONE:
        text = (
            f"the deletion in vault {report.vault} waits for {report.waits_for}\n"
            "next: run the same command again in some hours, or now with --wait"
        )
        return Result(report.document(), ExitCode.WAITING, text)

    def remark() -> None:
        for inventory in report.inventories:
            _tell_inventory(cli, inventory)

    code = ExitCode.PARTIAL if report.is_partial else ExitCode.DONE
    return Result(report.document(), code, printable("\n".join(_lines(report))), remark)


def _lines(report: KeeperReport) -> Iterator[str]:
    plan = ", a plan: nothing was deleted" if report.is_plan else ""
    yield f"vault {report.vault}{plan}"
    if report.floor is not None:
        yield f"  keeps what was needed since {report.floor:%Y-%m-%d %H:%M} UTC, by the vault's dates"
    if not report.inventories:
        yield "  it holds no catalog of nightvault"
    for inventory in report.inventories:
        jobs = f" ({', '.join(inventory.jobs)})" if inventory.jobs else ""
        yield f"server {inventory.inventory[:8]}{jobs}"
        if inventory.stopped:
            yield "  nothing is deleted for it: see below"
            continue
        yield f"  deleted   {_amount(inventory.deleted)}"
        for share in (*inventory.waiting, *inventory.refused):
            until = f", until {share.until:%Y-%m-%d}" if share.until else ""
            yield f"  kept      {_amount(share)}{until}: {share.detail}"


def _amount(share: Share) -> str:
    from backup.cli.render.render import counted, size

    return f"{counted(share.archives, 'archive')}, {size(share.bytes)}"


def _tell_inventory(cli: Cli, report: InventoryReport) -> None:
    """Lines on what somebody must look at."""
    name = report.inventory[:8]
    if report.stopped:
        cli.warn(f"server {name}: {report.stopped}")
        if report.advice:
            cli.say(f"next: {report.advice}")
    for finding in report.findings:
        job = f", job {finding.job}" if finding.job else ""
        cli.warn(f"server {name}{job}: {finding.sign}: {finding.detail}")
    if report.findings:
        cli.say(_LOOK.format(inventory=report.inventory))
    for warning in report.warnings:
        cli.warn(f"server {name}: {warning}")
