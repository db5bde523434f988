"""What a config wants to be in AWS: its set-up, from the file, the certificates and the account."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from backup.app.aws_setup.documents import OWN_NAME, AwsSetup, BucketSetup, documents
from backup.app.aws_setup.given import check_issuer
from backup.app.aws_setup.model import Wanted, WantedBucket, WantedRole
from backup.config import Config, VaultSettings
from backup.credentials.certificate import TAG_VALUE
from backup.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from cryptography import x509

PURPOSES = {"role_arn": "backup", "restore_role_arn": "restore", "prune_role_arn": "prune"}
"""The roles by the config's keys: what each is for, which is also the name of its document."""

LONGEST_BUCKET = 63


class Account(Struct, frozen=True):
    """The account that credentials belong to, and who has them."""

    id: str
    partition: str
    caller: str


class Options(Struct, frozen=True):
    """What the command line says beside the config.

    `subject` and `unit` stand for a certificate that is not on this machine; `prune_subject` is the
    certificate that alone may assume the prune role, this server's own or another; `shared`: the roles are
    for all servers of the unit.
    """

    name: str = "nightvault"
    certificates: str = ""
    crl: str | None = None
    subject: str | None = None
    unit: str | None = None
    prune_subject: str | None = None
    versioning: bool = False
    shared: bool = False


def account_of(answer: Mapping[str, Any]) -> Account:
    """The account in the answer of GetCallerIdentity."""
    arn = str(answer["Arn"])
    return Account(str(answer["Account"]), arn.split(":")[1], arn)


def vault_table(document: Mapping[str, Any], name: str | None) -> Mapping[str, Any]:
    """The [[vault]] in AWS that is named, or the only one there is, unchecked. `UsageError`."""
    tables = document.get("vault", [])
    usable = [one for one in tables if isinstance(one, dict) and one.get("kind") in ("glacier", "s3")]
    if name is not None:
        usable = [one for one in usable if one.get("name") == name]
    if len(usable) == 1:
        return usable[0]
    if not usable:
        raise UsageError(
            f"the config has no vault {name} in AWS" if name else "the config has no vault in AWS",
            advice="add a [[vault]] of kind s3 or glacier",
        )
    raise UsageError(
        "which vault? " + ", ".join(str(one.get("name")) for one in usable), advice="say --vault NAME"
    )


def require_alone(document: Mapping[str, Any], name: str) -> None:
    """`UsageError` if another vault in AWS waits for roles: one certificate's set-up is for one vault."""
    for other in document.get("vault", []):
        in_aws = isinstance(other, dict) and (
            other.get("kind") == "glacier" or (other.get("kind") == "s3" and "endpoint" not in other)
        )
        if in_aws and other.get("name") != name and "role_arn" not in other:
            raise UsageError(
                f"vault {other.get('name')} of this config is in AWS, too, and has no roles yet: "
                "[roles_anywhere] is for all vaults of a config, so a set-up is for one vault",
                advice="give each vault in AWS a config of its own",
            )


def missing_values(
    table: Mapping[str, Any], account: Account, name: str, *, lets_delete: bool
) -> dict[str, str]:
    """The keys that a vault's table lacks: ARNs of roles that are to be made, and a bucket's name.

    A role that deletes is among them only if somebody is to have it (`lets_delete`).
    """
    values = {
        key: f"arn:{account.partition}:iam::{account.id}:role/{name}-{purpose}"
        for key, purpose in PURPOSES.items()
        if key not in table and (purpose != "prune" or lets_delete)
    }
    if table.get("kind") == "s3" and "bucket" not in table:
        values["bucket"] = reserved_bucket(name, account.id, str(table.get("region", "")))
    return values


def reserved_bucket(name: str, account: str, region: str) -> str:
    """A bucket's name in the account-regional namespace, which nobody else can take."""
    bucket = f"{name.lower()}-{account}-{region}-an"
    if len(bucket) > LONGEST_BUCKET:
        raise UsageError(f"the bucket's name {bucket} would be too long", advice="choose a shorter --name")
    return bucket


def filled(document: Mapping[str, Any], vault: str, values: Mapping[str, str]) -> dict[str, Any]:
    """The document with values for a vault that lacks them."""
    changed: dict[str, Any] = copy.deepcopy(dict(document))
    for table in changed["vault"]:
        if table.get("name") == vault:
            table.update(values)
    return changed


def wanted_of(
    config: Config,
    vault: VaultSettings,
    account: Account,
    options: Options,
    *,
    made_up: Collection[str] = (),
) -> Wanted:
    """The set-up of one vault. `ConfigError` or `UsageError` where something is missing for it.

    `made_up` are the keys that the config's own file does not have.
    """
    if config.identity is None:
        raise ConfigError(
            f"{config.path} has no [identity]: a set-up is for a certificate", advice="docs/aws.md, step 3"
        )
    common_name, unit = _subject(config, options)
    if options.shared and unit is None:
        raise UsageError(
            "--shared needs the unit (OU) that the servers' certificates have in common",
            advice="give it by --subject and --unit; `nightvault ca issue --unit` puts it into a certificate",
        )
    setup = replace(_setup(config, vault, account), is_shared=options.shared)
    if options.shared and vault.vault == common_name:
        setup = replace(setup, vault=OWN_NAME)
    made = documents(setup)
    roles = tuple(_roles(vault, account, made, None if options.shared else common_name, unit, options))
    unnamed = {getattr(vault, key) for key in made_up if key in PURPOSES}
    roles = tuple(replace(role, is_named=role.arn not in unnamed) for role in roles)
    anywhere = config.roles_anywhere
    bucket = None
    if setup.bucket is not None:
        name = setup.bucket.name
        owner = account.id if vault.account_id == "-" else vault.account_id
        bucket = WantedBucket(name, setup.region, made["bucket"], options.versioning, owner)
    return Wanted(
        name=options.name,
        setup=setup,
        region=anywhere.region if anywhere else setup.region,
        certificates=options.certificates,
        roles=roles,
        seconds=anywhere.session_duration if anywhere else 3600,
        takes_session_names=bool(anywhere and anywhere.role_session_name),
        vault=vault.vault,
        bucket=bucket,
        crl=options.crl,
        others=tuple(other.name for other in config.vaults if other is not vault and _has_roles(other)),
        other_places=frozenset(
            place
            for other in config.vaults
            if other is not vault
            for place in (other.bucket, other.vault)
            if place
        ),
    )


def _has_roles(vault: VaultSettings) -> bool:
    return any(getattr(vault, key) is not None for key in PURPOSES)


def _setup(config: Config, vault: VaultSettings, account: Account) -> AwsSetup:
    bucket = None
    if vault.kind == "s3":
        endpoint = vault.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or ""
        is_plain = endpoint.startswith("http://")
        bucket = BucketSetup(
            str(vault.bucket), vault.prefix, vault.storage_class, vault.catalog_class, is_plain
        )
    region = config.roles_anywhere.region if config.roles_anywhere else vault.region
    arns: Sequence[str] = sorted({arn for key in PURPOSES if (arn := getattr(vault, key)) is not None})
    return AwsSetup(
        partition=account.partition,
        region=str(vault.region),
        account=account.id,
        vault=str(vault.vault),
        trust_anchor_arn=f"arn:{account.partition}:rolesanywhere:{region}:{account.id}:trust-anchor/NEW",
        role_arns=arns,
        session_duration=config.roles_anywhere.session_duration if config.roles_anywhere else 3600,
        bucket=bucket,
    )


def _roles(
    vault: VaultSettings,
    account: Account,
    made: Mapping[str, Any],
    common_name: str | None,
    unit: str | None,
    options: Options,
) -> list[WantedRole]:
    """A role for each ARN of the config; one ARN for several purposes gets the statements of all."""
    by_arn: dict[str, list[str]] = {}
    for key, purpose in PURPOSES.items():
        arn = getattr(vault, key)
        if arn is not None:
            by_arn.setdefault(arn, []).append(purpose)
    if options.prune_subject is not None and ["prune"] not in by_arn.values():
        raise UsageError(
            f"--prune-subject needs a prune role of its own; {vault.name} has one role for several purposes",
            advice="name another role in prune_role_arn, or leave it out",
        )
    roles = []
    for arn, purposes in by_arn.items():
        if arn.split(":")[4] != account.id:
            raise ConfigError(
                f"role {arn} is in another account than the credentials, {account.id}",
                advice="set up with credentials of that account, or correct the ARN",
            )
        statements = [one for purpose in purposes for one in made[purpose]["Statement"]]
        policy = {"Version": "2012-10-17", "Statement": _distinct(statements)}
        alone = purposes == ["prune"] and options.prune_subject not in {None, common_name}
        subject, of_unit = (options.prune_subject, None) if alone else (common_name, unit)
        name = arn.rsplit("/", 1)[-1]
        roles.append(WantedRole(" and ".join(purposes), name, arn, policy, subject, of_unit))
    return roles


def _distinct(statements: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The statements with ids that differ, as a policy needs them."""
    made, seen = [], dict[str, int]()
    for statement in statements:
        if statement in made:
            continue
        number = seen[statement["Sid"]] = seen.get(statement["Sid"], 0) + 1
        made.append(statement if number == 1 else {**statement, "Sid": f"{statement['Sid']}{number}"})
    return made


def _subject(config: Config, options: Options) -> tuple[str, str | None]:
    for option, value in (
        ("--subject", options.subject),
        ("--unit", options.unit),
        ("--prune-subject", options.prune_subject),
    ):
        if value is not None and not (value and TAG_VALUE.fullmatch(value)):
            raise UsageError(
                f"{option} {value!r} is in no certificate that AWS lets in",
                advice="letters, digits, blanks and _ . : / = + - @, at least one",
            )
    if options.subject is not None:
        return options.subject, options.unit
    if options.unit is not None:
        raise UsageError(
            "--unit is for a certificate that is not on this machine", advice="say --subject CN, too"
        )
    return subject_of(config)


def check_own_certificate(config: Config, authorities: Sequence[x509.Certificate]) -> None:
    """`UsageError` if this server's certificate is of none of the authorities; a chain is left to AWS."""
    from backup.app.vaults import identity_files
    from backup.credentials.identity import own_certificate

    if config.identity is not None and config.identity.intermediates is None:
        check_issuer(own_certificate(identity_files(config)), authorities)


def subject_of(config: Config) -> tuple[str, str | None]:
    """CN and OU of the certificate, as session tags have them: several are joined by a slash."""
    from cryptography.x509.oid import NameOID

    from backup.app.vaults import identity_files
    from backup.credentials.certificate import subject_values
    from backup.credentials.identity import own_certificate

    certificate = own_certificate(identity_files(config))
    names = subject_values(certificate, NameOID.COMMON_NAME)
    units = subject_values(certificate, NameOID.ORGANIZATIONAL_UNIT_NAME)
    if not names:
        raise UsageError("the certificate has no common name", advice="say --subject CN")
    return "/".join(names), "/".join(units) or None
