"""The start of a run that stores catalogs: the vault is opened, must be ours, and confirms its archives."""

from __future__ import annotations

from backup.catalogs.context import BackupContext, Keys, OpenVault, Sending
from backup.catalogs.packing import Spool
from backup.errors import ConfigError
from backup.format.keys import domain_id
from backup.inventory.content import archives, identities
from backup.inventory.content.strangers import OpenStranger
from backup.protocols import TakesFiles
from backup.transfer.succession import Successors, build_on_what_is_shown, require_vault
from backup.transfer.upload import PARTS_AT_ONCE, Uploader

_FIRST_TRIES = 4  # about three seconds; later in a run, more attempts are made


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
    that the vault's list shows. So do a rebuilt inventory's runs until it has stored something: before it
    left its mark, the machine before it may have gone on, and deleted.
    """
    patience = context.retry_limit.patience(context.clock, context.progress, attempts=_FIRST_TRIES)
    where = context.inventory, context.vault, context.clock, patience
    note = context.progress.note
    by = successors(keys)
    found = require_vault(*where, by, note=note if is_backup else None, leaves_marks=leaves_marks)
    with context.inventory.reading() as tx:
        is_new_heir = bool(context.inventory.ancestors) and leaves_marks and identities.has_stored_nothing(tx)
    if found or is_new_heir:
        build_on_what_is_shown(context.inventory, context.vault, context.clock, patience, note)
    return found


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
        if known is not None and known != ids and not accept:
            raise ConfigError(
                f"the recipients of vault {context.vault.name} are not those of its last backup",
                advice="if you changed them yourself, run once with --accept-recipients; "
                "else find out who did, for they can read what is backed up from now on",
            )
        return vault, archives.get_or_create_domain(tx, identity, vault, ids, context.clock.now())


def confirm_unlisted(context: BackupContext) -> None:
    """Confirm, by a list of the vault, archives that no list has shown yet."""
    with context.inventory.reading() as tx:
        if not archives.count_unconfirmed(tx, context.vault.name):
            return
    from backup.transfer.retrievals.confirm import confirm_archives  # hardly ever needed

    confirm_archives(context.inventory, context.vault, context.clock, context.progress)
