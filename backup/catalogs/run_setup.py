"""The start of a run that stores catalogs: the vault is opened, must be ours, and confirms its archives."""

from __future__ import annotations

from datetime import datetime, timedelta

from backup.catalogs.context import BackupContext, Keys, OpenVault, Sending
from backup.catalogs.packing import Spool
from backup.errors import ConfigError, NightvaultError, VaultError
from backup.format.keys import domain_id
from backup.inventory.content import archives, identities
from backup.inventory.content.archives import ArchiveState
from backup.inventory.content.strangers import OpenStranger
from backup.inventory.store.connections import Transaction
from backup.protocols import TakesFiles
from backup.transfer.retry import RetryPolicy
from backup.transfer.succession import Successors, require_vault
from backup.transfer.upload import PARTS_AT_ONCE, Uploader
from backup.wording import counted

_FIRST_TRIES = 4  # about three seconds; later in a run, more attempts are made
_LOOK_AGAIN = timedelta(hours=12)  # far less than a grace period, and more than most nights


def open_spool(keys: Keys, sending: Sending, context: BackupContext) -> Spool:
    """Return the context's spool, for packs sealed with these keys and sent in this way."""
    directory, vault = context.spool, context.vault
    is_taken = isinstance(vault, TakesFiles) and vault.takes_from(directory)
    return Spool(
        directory,
        context.inventory.id,
        keys.signer,
        keys.recipients,
        keys.secret.chunk_key,
        is_read_again=not is_taken,
        part_size=sending.part_size if vault.traits.checks_sha256 else None,
    )


def successors(keys: Keys) -> Successors:
    """Return the keys that prove a lineage, and this server's own proof."""
    return Successors(keys.vouching, keys.signer.public, keys.signature)


def require_ours(
    keys: Keys, context: BackupContext, *, is_backup: bool = False, leaves_marks: bool = True
) -> list[OpenStranger]:
    """Check that this server may write to the vault, before it does; return unanswered strangers.

    See `succession.require_vault`. If there are strangers without an answer, the run builds only on archives
    that the vault's list shows. So do a rebuilt inventory's runs at first: before its mark was seen, the
    machine before it may have gone on, and deleted.
    """
    patience = _first_patience(context)
    is_new_heir = leaves_marks and _is_new_heir(context)
    where, note = (context.inventory, context.vault, context.clock, patience), context.progress.note
    by = successors(keys)
    found = require_vault(*where, by, note=note if is_backup else None, leaves_marks=leaves_marks)
    if found or is_new_heir:
        _build_on_what_is_shown(context, patience)
    return found


def look_before_taking_back(context: BackupContext) -> None:
    """Learn what of the condemned archives is there, if the inventory was rebuilt.

    The machine before it may have been deleting them in the hour in which this one began.
    """
    if context.inventory.ancestors:
        _build_on_what_is_shown(context, _first_patience(context))


def _first_patience(context: BackupContext) -> RetryPolicy:
    return context.retry_limit.patience(context.clock, context.progress, attempts=_FIRST_TRIES)


def _is_new_heir(context: BackupContext) -> bool:
    """Whether a rebuilt inventory has stored nothing yet, or a late list may not show what went since."""
    if not context.inventory.ancestors:
        return False
    with context.inventory.reading() as tx:
        began = identities.began_to_store(tx)
    if began is None or context.vault.traits.lists_at_once:
        return began is None
    from backup.inventory.questions.compared import settled_before  # after a rebuild alone
    from backup.transfer.retrievals.listing import newest_kept_head

    with context.inventory.reading() as tx:
        head = newest_kept_head(tx, context.vault)
    return head is None or settled_before(head.made_at, at_once=False) < began


def _build_on_what_is_shown(context: BackupContext, patience: RetryPolicy) -> int:
    """Mark archives as lost that the vault's list should show and does not; returns their number.

    For a run while somebody else may delete: it stores missing data again, and takes back no snapshot that
    needs what was condemned and is gone. Where lists take hours it goes by
    the newest that was fetched, and asks for a newer one.
    """
    from backup.inventory.questions import compared  # hardly ever needed, as what follows
    from backup.transfer.retrievals.listing import newest_kept_head, see_to_listing

    inventory, vault, clock, note = context.inventory, context.vault, context.clock, context.progress.note
    at_once = vault.traits.lists_at_once
    with inventory.reading() as tx:
        stored = compared.stored_numbers(tx, vault.name) if at_once else None
    try:
        see_to_listing(inventory, vault, clock, patience, note)
    except NightvaultError as error:  # a role that may not list must not keep a backup from running
        note(f"the vault gives no list: {error}")
    with inventory.writing() as tx:
        head = newest_kept_head(tx, vault)
        if head is None:
            return 0
        covered = compared.must_show(tx, head, vault.name, clock.now(), at_once=at_once, stored=stored)
        missing, _ = compared.absent_archives(tx, head.number, vault.name, covered)
        compared.record(tx, vault.name, missing, ArchiveState.LOST, clock.now())
        deleted = compared.absent_condemned(tx, head.number, vault.name, covered)
        compared.record(tx, vault.name, deleted, ArchiveState.DELETED, clock.now())
    return len(missing)


def require_still_ours(at: OpenVault, since: datetime) -> datetime:
    """Look at the vault again if that was long ago, `since`; returns when it was looked at last.

    Who slept, or ran for days, may have an heir by now that deletes what this run builds on. Called before
    and after a catalog is sent. What `require_vault` raises, and `VaultError` if anything is gone.
    """
    context = at.context
    now = context.clock.now()
    if abs(now - since) < _LOOK_AGAIN:
        return since
    patience, by = context.patience, successors(at.keys)
    require_vault(context.inventory, context.vault, context.clock, patience, by, note=context.progress.note)
    gone = _build_on_what_is_shown(context, patience)
    if gone:
        raise VaultError(
            f"vault {context.vault.name} does not show {counted(gone, 'archive')} any more that it held when "
            "this run began: nothing that builds on them is said to be saved",
            advice="run it again: what is gone is stored again, and nothing else",
        )
    return context.clock.now()


def open_vault(keys: Keys, context: BackupContext, sending: Sending, *, accept: bool = False) -> OpenVault:
    """Return the context's vault as runs need it; use its uploader in a `with` statement.

    `ConfigError` if the recipients have changed, and the user does not `accept` them.
    """
    spool = open_spool(keys, sending, context)
    number, domain = require_domain(keys, context, accept=accept)
    most = sending.most_parts_at_once
    uploader = Uploader(
        inventory=context.inventory,
        vault=context.vault,
        clock=context.clock,
        progress=context.progress,
        spool=context.spool,
        part_size=sending.part_size,
        parts_at_once=most if sending.parts_are_fixed else min(most, PARTS_AT_ONCE),
        most_at_once=None if sending.parts_are_fixed else most,
    )
    return OpenVault(
        keys=keys,
        context=context,
        spool=spool,
        uploader=uploader,
        vault=number,
        domain=domain,
        level=sending.level,
    )


def require_domain(keys: Keys, context: BackupContext, *, accept: bool) -> tuple[int, int]:
    """Return the numbers of vault and dedup domain. The user must accept a changed set of recipients."""
    ids = b"".join(sorted(recipient.id for recipient in keys.recipients))
    identity = domain_id(context.vault.name, keys.recipients, keys.secret)
    with context.inventory.writing() as tx:
        vault = archives.get_or_create_vault(tx, context.vault.name)
        known = archives.recipients_of_newest_archive(tx, vault)
        if known is not None and known != ids and not accept and not _accepted_at_home(tx, vault, ids):
            raise ConfigError(
                f"the recipients of vault {context.vault.name} are not those of its last backup",
                advice="if you changed them yourself, run once with --accept-recipients; "
                "else find out who did, for they can read what is backed up from now on",
            )
        return vault, archives.get_or_create_domain(tx, identity, vault, ids, context.clock.now())


def _accepted_at_home(tx: Transaction, vault: int, recipients: bytes) -> bool:
    """Whether a job that has copies in the vault was backed up for these recipients last."""
    from backup.inventory.content import copied  # only after a change

    homes = copied.homes_of_copies(tx, vault)
    return any(archives.recipients_of_newest_archive(tx, home) == recipients for home in homes)


def confirm_unlisted(context: BackupContext) -> None:
    """Confirm, by a list of the vault, archives that no list has shown yet."""
    with context.inventory.reading() as tx:
        if not archives.count_unconfirmed(tx, context.vault.name):
            return
    from backup.transfer.retrievals.confirm import confirm_archives  # hardly ever needed

    confirm_archives(context.inventory, context.vault, context.clock, context.progress)
