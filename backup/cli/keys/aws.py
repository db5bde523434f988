"""`nightvault aws`: the policies and settings that this config needs in AWS."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from backup.app.aws_setup.documents import OWN_NAME, AwsSetup, Document, documents
from backup.app.aws_setup.wanted import PURPOSES, bucket_setup
from backup.app.base.vaults import Purpose, role_of
from backup.cli.support.choosing_vault import choose_vault, vault_option
from backup.cli.support.context import Cli, pass_cli
from backup.credentials.arns import parse_roles_anywhere_arn
from backup.errors import NightvaultError, UsageError

if TYPE_CHECKING:
    from backup.config import Config, VaultSettings

EXAMPLES = {"aws policy": ("nightvault aws policy", "nightvault aws policy --only backup > backup.json")}

_PURPOSE_OF_SETUP = "permissions of the person who sets this up, for administrators alone"
PARTS = (
    "trust-anchor",
    "trust",
    "backup",
    "restore",
    "copy",
    "prune",
    "keeper",
    "lock",
    "keeper-lock",
    "undelete",
    "legal-hold",
    "vault-lock",
    "center",
    "bucket",
    "profile",
)
UNKNOWN_BUCKET = "BUCKET-NAME"
UNKNOWN_NAME = "SERVER-NAME"  # a trust policy with it lets nobody in until it is replaced
ROLE_NAME = "nightvault"  # chosen where the config names no role


class GivenValues(Struct, frozen=True):
    """Values given on the command line because the config does not have them yet."""

    account: str | None = None
    role_name: str | None = None
    trust_anchor: str | None = None
    subject: str | None = None
    unit: str | None = None
    shared: bool = False


@click.group()
def aws() -> None:
    """Policies and settings that AWS needs for this config."""


@aws.command()
@vault_option
@click.option("--only", type=click.Choice(PARTS), help="This document alone, ready for a file.")
@click.option("--account", metavar="ID", help="The AWS account, if the config does not name it.")
@click.option(
    "--role", "role_name", metavar="NAME", help=f"The role's name, if the config has none: {ROLE_NAME}."
)
@click.option("--trust-anchor", metavar="ARN", help="As AWS answered it, before it is in the config.")
@click.option("--subject", metavar="CN", help="The certificate's common name, before there is one.")
@click.option("--unit", metavar="OU", help="The certificate's organizational unit, before there is one.")
@click.option(
    "--shared",
    is_flag=True,
    help="One role for all servers of an OU, each with a part of its own by its certificate's name.",
)
@pass_cli
def policy(cli: Cli, /, vault_name: str | None, only: str | None, **told: Any) -> None:
    """Print the JSON documents for the console or the AWS CLI; docs/aws.md tells where each one goes.

    What the config does not say yet can be given; a role's name is chosen if need be.
    """
    config = cli.config()
    vault = _chosen(config, vault_name)
    words = GivenValues(**told)
    if words.trust_anchor:
        parse_roles_anywhere_arn(words.trust_anchor, "--trust-anchor", "trust-anchor")
    setup = _setup(cli, config, vault, words)
    if setup.is_shared:
        _check_shared(cli, vault, setup)
    made = documents(setup)
    if only is not None:
        if only not in made:
            raise _absent(vault, only)
        cli.show(made[only], json.dumps(made[only], indent=2))
        if only == "trust-anchor":
            cli.warn(f"{_PURPOSE_OF_SETUP}: who writes roles can give themselves any right in the account")
    else:
        cli.show(made, _sections(made, _purposes(vault)))
    if vault.role_arn is None:
        role = next(arn for arn in setup.role_arns if arn.endswith(f"/{words.role_name or ROLE_NAME}"))
        cli.say(f'the config names no role; when it is made, put this into [[vault]]: role_arn = "{role}"')
    if missing := _missing(made if only is None else {only: made[only]}):
        cli.say(f"not known yet, to be filled in by hand: {', '.join(missing)}")


def _absent(vault: VaultSettings, only: str) -> UsageError:
    """Why there is no such document for a vault."""
    if only == "center":
        return UsageError(f"no center is told through vault {vault.name}: [center] does not name its bucket")
    if only in {"lock", "keeper-lock", "legal-hold"}:
        return UsageError(f"vault {vault.name} locks nothing: `lock` in its [[vault]] does that")
    if only == "vault-lock":
        return UsageError(f"vault {vault.name} is a bucket: it has object lock (docs/s3.md)")
    what = "no versions" if only == "undelete" else "no bucket policy"
    return UsageError(f"vault {vault.name} is no bucket: it has {what}")


def _chosen(config: Config, name: str | None) -> VaultSettings:
    """The vault in AWS that is named, or the only one there is."""
    in_aws = [vault.name for vault in config.vaults if vault.kind != "directory"]
    if name is None and not in_aws:
        raise UsageError(f"{config.path} has no vault in AWS", advice="add a [[vault]] of kind s3 or glacier")
    vault = choose_vault(config, name, among=in_aws)
    if vault.kind == "directory":
        raise UsageError(f"vault {vault.name} is a directory: AWS has no part in it")
    return vault


def _setup(cli: Cli, config: Config, vault: VaultSettings, told: GivenValues) -> AwsSetup:
    anywhere = config.roles_anywhere
    anchor = told.trust_anchor or (anywhere.trust_anchor_arn if anywhere else None)
    known = [arn for arn in (vault.role_arn, vault.restore_role_arn, vault.prune_role_arn, anchor) if arn]
    parts = known[0].split(":") if known else ["arn", "aws", "", "", "ACCOUNT-ID"]
    partition, account = parts[1], parts[4] if vault.account_id == "-" else vault.account_id
    account = told.account or account
    common_name, unit = (told.subject, told.unit) if told.subject else _certificate_tags(cli, config)
    roles = {
        vault.role_arn or f"arn:{partition}:iam::{account}:role/{told.role_name or ROLE_NAME}",
        *(arn for key in PURPOSES if (arn := getattr(vault, key))),
    }
    region = str(vault.region)
    bucket = None
    if vault.kind == "s3":
        name = vault.bucket or UNKNOWN_BUCKET
        bucket = bucket_setup(config, vault, name)
    own_vault = told.shared and vault.vault == common_name
    return AwsSetup(
        partition=partition,
        region=region,
        account=account,
        vault=OWN_NAME if own_vault else str(vault.vault),
        trust_anchor_arn=anchor
        or f"arn:{partition}:rolesanywhere:{region}:{account}:trust-anchor/TRUST-ANCHOR-ID",
        role_arns=sorted(roles),
        session_duration=anywhere.session_duration if anywhere else 3600,
        common_name=common_name,
        unit=unit,
        bucket=bucket,
        is_shared=told.shared,
    )


def _check_shared(cli: Cli, vault: VaultSettings, setup: AwsSetup) -> None:
    """`UsageError` if a shared role would let every certificate in; a remark if servers share a place."""
    if setup.unit is None:
        raise UsageError(
            "--shared needs the unit (OU) that the servers' certificates have in common",
            advice="give it by --unit; `nightvault ca issue --unit` puts it into a certificate",
        )
    name = setup.common_name
    if vault.kind == "s3" and name != UNKNOWN_NAME and vault.prefix != f"{name}/":
        cli.warn(f'vault {vault.name}: with this role the server needs prefix = "{name}/" in its config')
    if vault.kind == "glacier" and setup.vault != OWN_NAME:
        cli.warn(
            f"all servers would share vault {vault.vault}; to keep them apart, name each one's vault as its "
            "certificate"
        )


def _certificate_tags(cli: Cli, config: Config) -> tuple[str, str | None]:
    """CN and OU of the certificate; a word in capitals where there is none."""
    from backup.app.aws_setup.wanted import subject_of

    if config.identity is None:
        return UNKNOWN_NAME, None
    try:
        return subject_of(config)
    except NightvaultError as error:
        cli.warn(f"{error}: the trust policy cannot name its subject")
        return UNKNOWN_NAME, None


def _missing(shown: Mapping[str, Document]) -> list[str]:
    text = json.dumps(shown)
    return [word for word in ("ACCOUNT-ID", "TRUST-ANCHOR-ID", UNKNOWN_NAME, UNKNOWN_BUCKET) if word in text]


def _purposes(vault: VaultSettings) -> Mapping[str, str]:
    backup = vault.role_arn or "the backup role"
    return {
        "trust-anchor": _PURPOSE_OF_SETUP,
        "trust": "trust policy of each role below",
        "backup": f"permissions of {backup}",
        "restore": f"permissions of {vault.restore_role_arn or backup}",
        "copy": f"permissions of {role_of(vault, Purpose.COPY) or backup}, for copies out of this vault; "
        "copies into it are stored by `backup`",
        "prune": f"permissions of {vault.prune_role_arn or backup}, if it is to delete at all",
        "keeper": "permissions of whoever deletes elsewhere (prune --delete-only), by another trust policy",
        "lock": f"permissions of {vault.lock_role_arn or 'whoever locks for longer (object-lock extend)'}",
        "keeper-lock": "permissions of whoever does that elsewhere (object-lock extend --for-servers)",
        "undelete": "permissions of a person, never of a server, for `undelete --versions`",
        "legal-hold": "permissions of a person, never of a server, for `pin --legal-hold` and its end",
        "vault-lock": "permissions of a person, never of a server, for `nightvault vault-lock`",
        "center": "permissions of the center that servers tell through this bucket (center fetch)",
        "bucket": f"policy of bucket {vault.bucket or UNKNOWN_BUCKET}",
        "profile": "input of CreateProfile",
    }


def _sections(made: Mapping[str, Document], purposes: Mapping[str, str]) -> str:
    parts = [
        f"# {name}: {purposes[name]}\n{json.dumps(document, indent=2)}" for name, document in made.items()
    ]
    return "\n\n".join(parts)
