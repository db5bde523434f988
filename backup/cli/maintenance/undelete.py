"""`nightvault undelete`: brings back what prune has condemned, or what somebody hid in a bucket."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click

from backup.cli.maintenance.check_output import versions_result
from backup.cli.support.choosing_vault import choose_vault, show_result, vault_option
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.operating import operate, run_context
from backup.errors import UsageError
from backup.model import VaultName

if TYPE_CHECKING:
    from collections.abc import Callable

    from backup.app.base.run_context import RunContext
    from backup.app.retention.undelete import Undeleted
    from backup.locker.versions import VersionsReport
    from backup.transfer.retry import RetryLimit

EXAMPLES = {
    "undelete": (
        "nightvault undelete --vault cold NkbByEejwEgg",
        "nightvault undelete --versions --dry-run",
    )
}


@click.command()
@vault_option
@click.argument("archives", nargs=-1, metavar="[ARCHIVE]...")
@click.option("--all", "every", is_flag=True, help="All archives of the vault that are condemned.")
@click.option("--versions", is_flag=True, help="Take away what somebody put over objects in the bucket.")
@click.option("--dry-run", is_flag=True, help="With --versions: show what would be taken away.")
@pass_cli
def undelete(
    cli: Cli, vault_name: str | None, archives: tuple[str, ...], every: bool, versions: bool, dry_run: bool
) -> None:
    """Take back archives that a prune has condemned, and not deleted yet.

    Restores can use them at once; new backups do when a later list of the vault shows that they still exist.
    ARCHIVE is the beginning of an archive's id, as `archives` shows it. The next prune condemns again what no
    kept snapshot needs by then. To keep a forgotten snapshot take it back with `forget --undo`, which takes
    its archives back, too.

    With --versions, after an attack: delete markers, and objects that were put over those that were stored,
    are deleted by their versions, once size and checksum prove which one is ours, and tags are taken away.
    That goes with a person's own AWS keys, from the environment or ~/.aws, and never with a role of the
    config: `nightvault aws policy --only undelete` prints what they need. `check --versions` only looks.
    """
    from backup.app.base.opened import opened
    from backup.app.retention.undelete import undelete_archives

    if dry_run and not versions:
        raise UsageError("--dry-run goes with --versions")
    if versions:
        if every or archives:
            raise UsageError("--versions takes back all that somebody did: it takes no archives")
        _by_versions(cli, vault_name, dry_run=dry_run)
        return
    if every == bool(archives):
        raise UsageError(
            "which archives are to be taken back?",
            advice="name them as `nightvault archives` shows them, or say --all",
        )
    config = cli.config()
    vault = VaultName(choose_vault(config, vault_name).name)
    with closing(opened(config)) as inventory, run_context(cli, config, inventory) as at:
        done = undelete_archives(at, vault, archives)
    _tell_undeleted(cli, vault, done)


def _by_versions(cli: Cli, vault_name: str | None, *, dry_run: bool) -> None:
    from backup.app.retention.undelete import undelete_versions

    config = cli.config()
    vault = VaultName(choose_vault(config, vault_name).name)

    def begin(at: RunContext) -> Callable[[RetryLimit | None], VersionsReport]:
        return lambda _: undelete_versions(at, vault, is_plan=dry_run)

    show_result(cli, versions_result(cli, operate(cli, config, begin)))


def _tell_undeleted(cli: Cli, vault: VaultName, done: Undeleted) -> None:
    from backup.cli.render.render import counted, size

    warnings = [text for amended in done.amended for text in amended.warnings]
    if done.gone:
        warnings.append(
            f"not in the vault any more, deleted by somebody else: {counted(len(done.gone), 'archive')}; the "
            "next prune records that"
        )
    taken = sum(archive.size for archive in done.archives)
    document: dict[str, Any] = {
        "vault": vault,
        "taken_up": [archive.archive_id for archive in done.archives],
        "gone": [archive.archive_id for archive in done.gone],
        "bytes": taken,
        "recovery_lines": {amended.job: amended.recovery_line for amended in done.amended},
        "warnings": warnings,
    }
    if done.archives:
        count = counted(len(done.archives), "archive")
        cli.report(document, f"vault {vault}: {count} in use again, {size(taken)}")
        cli.say(
            "the next prune condemns again what no kept snapshot needs; `nightvault forget --undo` brings "
            "snapshots back"
        )
    elif done.gone:
        cli.report(document, f"vault {vault}: nothing was taken back")
    else:
        cli.report(document, f"no archive in vault {vault} is condemned: there is nothing to take back")
    for text in warnings:
        cli.warn(f"warning: {text}")
