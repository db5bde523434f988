"""`nightvault setup`: shows, makes, checks or removes the AWS resources that this config needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from backup.cli.support.context import Cli, pass_cli
from backup.errors import ConfigError, ExitCode, IdentityError, UsageError, VaultError

if TYPE_CHECKING:
    from backup.cli.keys.aws_setup import SetUp

EXAMPLES = {
    "setup aws": (
        "nightvault setup aws --plan  # what would be made, in words",
        "nightvault setup aws --apply --ca ca/ca.pem",
    ),
    "setup export": (
        "nightvault setup export --terraform terraform/nightvault",
        "nightvault setup export --cli set-up.sh --cloudformation nightvault.json",
    ),
}

_OPTIONS = (
    click.option(
        "--vault", "vault_name", metavar="NAME", help="This vault alone; all in AWS of the config by default."
    ),
    click.option(
        "--name",
        default="nightvault",
        show_default=True,
        metavar="NAME",
        help="The set-up's name, its tag's value.",
    ),
    click.option(
        "--ca",
        "authorities",
        multiple=True,
        metavar="FILE",
        help="The authority's certificates.  [default: ca/anchor.pem, else ca/ca.pem]",
    ),
    click.option(
        "--subject", metavar="CN", help="The certificate's common name, if it is not on this machine."
    ),
    click.option("--unit", metavar="OU", help="Its organizational unit, with --subject."),
    click.option(
        "--prune-subject",
        metavar="CN",
        help="Make a role that deletes, for this certificate alone; without it nobody may delete.",
    ),
    click.option(
        "--shared",
        is_flag=True,
        help="Roles for all servers whose certificates have this unit, apart by name.",
    ),
    click.option("--versioning", is_flag=True, help="Have the bucket keep versions."),
)


def set_up_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add to a command the options that describe a set-up."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def setup() -> None:
    """Set up AWS for this config: shown first, undone by another command."""


@setup.command("aws")
@click.option("--plan", is_flag=True, help="Show what would be done.")
@click.option("--apply", is_flag=True, help="Do it, and put the ARNs into the config.")
@click.option("--destroy", is_flag=True, help="Remove what carries the set-up's tag.")
@click.option("--status", is_flag=True, help="Say whether all is as it should be: exit 0 or 1.")
@set_up_options
@click.option("--crl", metavar="FILE", help="A revocation list to import.")
@click.option("--yes", is_flag=True, help="Do it without a question.")
@pass_cli
def setup_aws(
    cli: Cli, /, *, plan: bool, apply: bool, destroy: bool, status: bool, yes: bool, **told: object
) -> None:
    """Make the trust anchor, roles, profile, and the vaults and buckets that this config needs in AWS.

    With your own credentials, as the AWS CLI finds them; they are not stored. What was made is found again by
    a tag, so that one that was cut short can be run again, and nothing is made twice.
    """
    from backup.cli.keys.aws_setup import open_set_up

    given = {"plan": plan, "apply": apply, "destroy": destroy, "status": status}
    modes = [name for name, is_given in given.items() if is_given]
    if len(modes) != 1:
        what = "say what to do" if not modes else "name one thing to do; nothing was changed"
        raise UsageError(what, advice="one of --plan, --apply, --status, --destroy")
    (mode,) = modes
    made = open_set_up(cli, mode, told)
    if mode == "plan":
        made.show(made.plan())
    elif mode == "status":
        _status(made)
    elif mode == "apply":
        _apply(cli, made, yes=yes)
    else:
        _destroy(cli, made, yes=yes)


def _status(made: SetUp) -> None:
    made.show(made.plan())
    _end(made)


def _end(made: SetUp) -> None:
    """Exit with 1 if something is not as it should be."""
    plan = made.plan()
    if plan.steps or plan.obstacles:
        raise click.exceptions.Exit(int(ExitCode.FAILED))


def _apply(cli: Cli, made: SetUp, *, yes: bool) -> None:
    plan = made.plan()
    if plan.obstacles:
        raise VaultError("; ".join(plan.obstacles), advice="nothing was changed")
    made.check_config()
    if plan.steps:
        made.say(plan)
        if not yes and not cli.confirm("Do this?"):
            raise UsageError("nothing was changed")
    made.carry_out()
    _write_config(cli, made)
    _try(cli, made)
    made.report()
    _end(made)


def _write_config(cli: Cli, made: SetUp) -> None:
    try:
        copy = made.write_config()
    except ConfigError as error:
        advice = "AWS is set up: run the command again, and the config gets them"
        raise ConfigError(str(error), advice=advice) from error
    if copy is not None:
        cli.say(f"the ARNs are in {made.path} now; the old one is {copy}")


def _try(cli: Cli, made: SetUp) -> None:
    """Get credentials once; on a machine without the key that is left to the server."""
    try:
        made.try_sessions()
    except IdentityError as error:
        cli.say(f"not tried with the certificate, whose key is not usable here ({error})")


def _destroy(cli: Cli, made: SetUp, *, yes: bool) -> None:
    plan = made.plan()
    if plan.obstacles:
        raise VaultError("; ".join(plan.obstacles), advice="nothing was changed")
    if plan.steps:
        made.say(plan)
        if not yes and not cli.confirm("Remove this? Backups by it end at once."):
            raise UsageError("nothing was changed")
    made.carry_out()
    made.report()
    _end(made)


@setup.command("export")
@click.option("--terraform", metavar="DIR", help="Write a Terraform module into this directory.")
@click.option("--cloudformation", metavar="FILE", help="Write a CloudFormation template.")
@click.option("--cli", "script", metavar="FILE", help="Write a script of AWS CLI commands.")
@set_up_options
@pass_cli
def setup_export(
    cli: Cli,
    /,
    terraform: str | None,
    cloudformation: str | None,
    script: str | None,
    **told: object,
) -> None:
    """Write the same set-up as code for other tools; nothing in AWS is changed or looked at.

    Only the account is asked for, with your own credentials.
    """
    from backup.cli.keys.aws_export import write_exports

    if not (terraform or cloudformation or script):
        raise UsageError("say what to write", advice="--terraform DIR, --cloudformation FILE or --cli FILE")
    write_exports(cli, told, terraform=terraform, cloudformation=cloudformation, script=script)
