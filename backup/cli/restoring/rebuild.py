"""`nightvault rebuild`: rebuilds the inventory from the vault and a recovery key, on a bare machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from backup.cli.options.accepting import accept_option
from backup.cli.options.moments import parse_moment
from backup.cli.options.retrieval_options import (
    keys_option,
    passphrase_files_option,
    tier_option,
    wait_option,
)
from backup.cli.support.choosing_vault import choose_vault, vault_option
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.keyfiles import read_keys
from backup.cli.support.operating import step_loop
from backup.errors import ExitCode, NightvaultError, UsageError
from backup.inventory.store.states import StepStage
from backup.model import Tier, VaultName

if TYPE_CHECKING:
    from collections.abc import Sequence

    from backup.app.rebuilds.set_aside import Moved
    from backup.config import Config
    from backup.format.keys import RecoveryKey
    from backup.format.line import RecoveryLine
    from backup.rebuilder.context import Wish
    from backup.rebuilder.report import RebuildReport

EXAMPLES = {
    "rebuild": (
        "nightvault rebuild --key recovery.key --from recovery-lines.txt",
        "nightvault rebuild --key recovery.key --wait  # by the vault's own list",
    )
}

_MOST_SHOWN = 20


@click.command()
@vault_option
@keys_option("The recovery key; asked for if not given. Several where recipients changed, today's first.")
@passphrase_files_option
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="LINE|FILE",
    help="Begin at these recovery lines, without the vault's list.",
)
@click.option("--job", "jobs", multiple=True, metavar="JOB", help="Only this job; may be repeated.")
@click.option("--inventory", metavar="ID", help="Which inventory, if the vault holds several.")
@click.option(
    "--tip",
    metavar="PACK",
    help="The catalog to follow, of two with one predecessor, or before one of a newer version.",
)
@accept_option("Say that a catalog belongs to this server, though no key proves it; may be repeated.")
@click.option(
    "--before",
    metavar="TIME",
    help="Ignore catalogs that the vault accepted later, as after a break-in; only to restore from.",
)
@click.option("--signer", metavar="FINGERPRINT", help="Trust this signer alone, enrolled or not.")
@click.option(
    "--trust-vault", is_flag=True, help="Trust any signer, and so anybody who can write to the vault."
)
@click.option("--deep", is_flag=True, help="Read the directories of packs that no catalog covers, too.")
@tier_option
@click.option("--set-aside", is_flag=True, help="Move an existing inventory and its keys out of the way.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="A drill: rebuild into a scratch folder, compare with the inventory in use, remove it.",
)
@wait_option
@pass_cli
def rebuild(
    cli: Cli,
    vault_name: str | None,
    key_files: tuple[str, ...],
    passphrase_files: tuple[str, ...],
    sources: tuple[str, ...],
    jobs: tuple[str, ...],
    inventory: str | None,
    tip: str | None,
    accepted: tuple[str, ...],
    before: str | None,
    signer: str | None,
    trust_vault: bool,
    deep: bool,
    tier: str | None,
    set_aside: bool,
    dry_run: bool,
    wait: bool,
) -> None:
    """Rebuild the inventory from the catalogs in the vault.

    It needs only the config with its vault and identity, and the recovery key. A cold vault takes hours for
    its list and hours for the catalogs: run the same command again, and it continues. Exit code 17 says that
    it waits: run it again later; 3 that the inventory was rebuilt, but something is missing in the vault, or
    newer than it. With --dry-run, 1 says that the rebuilt inventory would differ from the one in use.
    """
    from backup.rebuilder.context import Wish
    from backup.rebuilder.members import Trust

    config = cli.config()
    lines = _lines(sources)
    name = _vault(config, vault_name, lines)
    wish = Wish(
        lines=[line for line in lines if line.vault == name],
        inventory=inventory,
        jobs=frozenset(jobs),
        tip=tip,
        trust=Trust(_fingerprint(signer), trust_vault),
        tier=Tier(tier) if tier else config.vault(name).tier,
        deep=deep,
        before=parse_moment(before, cli.clock.now(), cli.say) if before else None,
        accepted=accepted,
    )
    if dry_run and (set_aside or deep):
        raise UsageError("--dry-run goes with neither --set-aside nor --deep")
    keys = read_keys(key_files, passphrase_files)
    if dry_run:
        from backup.cli.restoring.rebuild_drill import run_drill

        run_drill(cli, config, wish, name, keys, stays=wait)
        return
    _tell_report(cli, config, _rebuilt(cli, config, name, wish, keys, set_aside=set_aside, wait=wait))


def _rebuilt(
    cli: Cli,
    config: Config,
    name: VaultName,
    wish: Wish,
    keys: Sequence[RecoveryKey],
    *,
    set_aside: bool,
    wait: bool,
) -> RebuildReport:
    """The report of a rebuild in place; one that fails moves back what was set aside for it."""
    from backup.app.rebuilds.rebuilds import check_keys, forget_list
    from backup.app.rebuilds.set_aside import alone_on_state, put_back
    from backup.operations.rebuild import Rebuild

    check_keys(config, keys)  # before anything is moved
    with alone_on_state(config, cli.clock):
        moved = _move_away(cli, config) if set_aside else ()
        try:
            progress = cli.progress()
            stays = wait or config.vault(name).kind == "directory"
            step = Rebuild(config, name, wish, keys, cli.clock, progress).step
            return step_loop(cli, step, progress, stays=stays)
        except NightvaultError:
            if put_back(config, moved):
                forget_list(config, name)
                cli.warn("nothing was rebuilt: what was moved out of the way is back in its place")
            raise


def _move_away(cli: Cli, config: Config) -> Sequence[Moved]:
    from backup.app.rebuilds.set_aside import set_aside, waiting_restores
    from backup.cli.render.render import counted

    moved = set_aside(config, cli.clock.now())
    for file in moved:
        cli.say(f"moved out of the way: {file.aside}")
    if count := waiting_restores(config):
        cli.say(f"with it went {counted(count, 'open restore')}: run the restore's command again afterwards")
    return moved


def _lines(sources: tuple[str, ...]) -> list[RecoveryLine]:
    from backup.format.line import MARK, RecoveryLine, find_lines

    found: list[RecoveryLine] = []
    for source in sources:
        if source.lstrip().startswith(f"{MARK},"):
            found.append(RecoveryLine.from_text(source))
            continue
        try:
            with open(source, encoding="utf-8", errors="replace") as file:
                texts = list(find_lines(file.read(1024 * 1024)))
        except OSError as error:
            raise UsageError(f"{source} is no recovery line, and no file: {error.strerror}") from error
        if not texts:
            raise UsageError(f"there is no recovery line in {source}")
        found.extend(map(RecoveryLine.from_text, texts))
    return found


def _vault(config: Config, name: str | None, lines: list[RecoveryLine]) -> VaultName:
    of_lines = sorted({line.vault for line in lines})
    found = choose_vault(config, name, among=of_lines or None).name
    if lines and all(line.vault != found for line in lines):
        raise UsageError(f"no recovery line is of vault {found}")
    return found


def _fingerprint(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        fingerprint = bytes.fromhex(text)
    except ValueError:
        fingerprint = b""
    if len(fingerprint) != 16:
        raise UsageError(
            "--signer: a fingerprint has 32 hex digits", advice="`nightvault key status` shows it"
        )
    return fingerprint


def _tell_report(cli: Cli, config: Config, report: RebuildReport) -> None:
    from backup.cli.render.render import counted, duration

    if report.state is not StepStage.DONE:
        text = (
            f"the rebuild waits for {report.waits_for}\n"
            "next: run the same command again in some hours, or now with --wait"
        )
        cli.report(report.document(), text)
        raise click.exceptions.Exit(int(ExitCode.WAITING))
    lines = [
        f"job {job.name}: {counted(job.snapshots, 'snapshot')}, as of catalog {job.number}"
        for job in report.jobs
    ]
    size = f"{counted(report.entries, 'entry')}, {counted(report.archives, 'archive')}"
    ids = f"inventory {_hex(report.inventory_id)} rebuilt from {_hex(report.predecessor)}"
    lines.append(f"{ids}: {size}, in {duration(report.seconds)}")
    _tell_suspicions(cli, report)
    _tell_next_steps(cli, config, report)
    cli.report(report.document(), "\n".join(lines))
    cli.say("next: `nightvault snapshots`, `nightvault restore latest --target DIR --key FILE`")
    if report.is_partial:
        raise click.exceptions.Exit(int(ExitCode.PARTIAL))


def _tell_suspicions(cli: Cli, report: RebuildReport) -> None:
    """Tell of suspicious archives, of catalogs that were not applied, and of jobs without a recovery line."""
    from backup.cli.render.render import local_time

    for suspicion in report.suspicions[:_MOST_SHOWN]:
        cli.warn(": ".join(filter(None, (suspicion.kind, suspicion.archive_id, suspicion.detail))))
    if len(report.suspicions) > _MOST_SHOWN:
        cli.warn(f"… and {len(report.suspicions) - _MOST_SHOWN} more; --json has them all")
    for job in report.jobs:
        if job.not_covered:
            numbers = ", ".join(map(str, job.not_covered))
            cli.warn(f"job {job.name}: newer catalogs are there, but cannot be applied: {numbers}")
        if not job.line_met:
            as_of = f" (its list is of {local_time(report.listed_at)})" if report.listed_at else ""
            cli.warn(f"job {job.name}: without a recovery line, a vault can hide later backups{as_of}")


def _tell_next_steps(cli: Cli, config: Config, report: RebuildReport) -> None:
    """Tell what was recovered beyond the catalogs, and what is still to be done."""
    from backup.cli.render.render import counted

    if report.recovered_packs:
        packs, chunks = counted(report.recovered_packs, "pack"), counted(report.recovered_chunks, "chunk")
        cli.say(f"{packs} that no catalog covers gave {chunks}: they are not uploaded again")
    if report.unconfirmed:
        count = counted(report.unconfirmed, "archive")
        cli.say(f"unconfirmed: {count}, good to restore from, not to build upon before the vault's list")
        cli.say("shows them: the next backup asks for it")
    if report.missing_recipients:
        cli.warn(
            f"{counted(report.missing_recipients, 'recipient')} of before are not known here: name all "
            f"in [encryption] recipients of {config.path} before the next backup"
        )
    unread = sorted({to.vault for job in config.jobs for to in job.copy} - {report.vault})
    if unread:
        cli.say(
            f"not known yet: what copies are in vault {', '.join(unread)}; no copy and no prune goes on there"
        )
        cli.say("before `nightvault copy --key FILE` has read it, once: nothing is sent again")
    if report.not_enrolled:
        count = counted(len(report.not_enrolled), "recipient")
        cli.say(f"{count} whose key was not given must enrol the new inventory: `nightvault key request`,")
        cli.say("`key enroll` where the key is, `key accept`; each backup says so until then")


def _hex(id_: bytes | None) -> str:
    return (id_ or b"").hex()
