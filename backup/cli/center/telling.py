"""`nightvault center join`, `leave`, `tell`: a server and its center."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import click

from backup.cli.support.context import Cli, pass_cli
from backup.errors import UsageError

if TYPE_CHECKING:
    from backup.app.machine.first_identity import FirstIdentity
    from backup.config import Config
    from backup.credentials.identity_paths import IdentityFiles

Section = Mapping[str, str | Sequence[str]]
_MOST_RECIPIENTS = 1 << 20


@click.command("join")
@click.argument("token")
@click.option(
    "--ca-file", metavar="FILE", help="Trust these authorities for its TLS instead of the system's."
)
@click.option(
    "--recipient",
    metavar="FILE",
    help="Recipients (`key generate`) for a config without, from somebody you trust.",
)
@click.option("--name", metavar="CN", help="The name that was invited, without [identity]; else the host's.")
@click.option("--wait", default="1h", show_default=True, metavar="SPAN", help="For the first certificate.")
@pass_cli
def join_here(
    cli: Cli, token: str, ca_file: str | None, recipient: str | None, name: str | None, wait: str
) -> None:
    """Join a center by the word of `center invite`, and add [center] to the config, which is copied first.

    The certificate of [identity] must have the name that was invited. Without [identity], a key and the
    request for its certificate are written beside the config; when the authority's certificate lies there,
    too, that section is added as well. Nothing else of the config changes, and nothing is taken from the
    center: recipients come from a file that you bring (--recipient), never from it.
    """
    from backup.app.aws_setup.config_file import check_writable, read_config, replace_config
    from backup.app.base.vaults import identity_files
    from backup.app.machine.first_identity import FirstIdentity
    from backup.app.telling.center import join_center
    from backup.app.telling.ways import require_address, vault_with
    from backup.format.host_report import BUCKET, read_token

    config = cli.config()
    address, secret = read_token(token)
    require_address(address)
    in_bucket = address.startswith(BUCKET)
    if in_bucket:
        vault_with(config, address)
    if config.center is not None and config.center.url != address:
        named = f"the config names another center, {config.center.url}"
        raise UsageError(named, advice="give `nightvault center leave` first")
    check_writable(config.path)
    sections: dict[str, Section] = {}
    if recipient is not None:
        sections |= _recipients_of(config, recipient)
    files = None if config.identity is None else identity_files(config)
    first = FirstIdentity.beside(config.path)
    if files is None:
        sections["identity"] = {"certificate": first.certificate, "private_key": first.private_key}
    if config.center is None:
        sections["center"] = {"url": address} | ({"ca_file": os.path.abspath(ca_file)} if ca_file else {})
    text = read_config(config.path)
    changed = _with_sections(config, text, sections)
    if files is None:
        files = _first_identity(cli, first, name or socket.gethostname(), wait)
    known_as = join_center(config, files, cli.clock, address, secret, ca_file=ca_file)
    copy = replace_config(config.path, text, changed, cli.clock.now())
    document = {
        "center": address,
        "name": known_as,
        "config": config.path,
        "copy": copy,
        "added": list(sections),
    }
    told = f"{address} knows this server as {known_as}: `nightvault center tell` tells it now"
    if in_bucket:
        told = f"the center finds {known_as} in {address} with its next `center fetch`; it is told there"
    cli.report(document, told)


def _recipients_of(config: Config, path: str) -> dict[str, Section]:
    """Return the section that a config without recipients is to have. `UsageError` if it has others."""
    from backup.files import read_small
    from backup.owners import hazard_of_way

    try:
        found = read_small(path, _MOST_RECIPIENTS).decode("ascii").split()
        hazard = hazard_of_way(os.path.abspath(path))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UsageError(f"--recipient: {path} cannot be read: {why}") from error
    if hazard is not None:
        danger = "others could have backups sealed for a key of theirs"
        raise UsageError(f"--recipient: {path}: {hazard.why}: {danger}", advice=hazard.command)
    if not found:
        raise UsageError(f"--recipient: {path} holds no recipient")
    if not config.recipients:
        return {"encryption": {"recipients": found}}
    if sorted(config.recipients) != sorted(found):
        raise UsageError(
            f"--recipient: the config has other recipients than {path}",
            advice="find out which are right: whoever has their keys reads the backups",
        )
    return {}


def _with_sections(config: Config, text: str, sections: Mapping[str, Section]) -> str:
    """Return the config's text with sections added, which is a valid config. `ConfigError`."""
    import tomllib

    from backup.app.aws_setup.config_file import with_section
    from backup.config.reading import config_of

    for section, values in sections.items():
        text = with_section(text, section, values)
    config_of(tomllib.loads(text), config.path)
    return text


def _first_identity(cli: Cli, first: FirstIdentity, name: str, wait: str) -> IdentityFiles:
    """Make key and request, and wait for the certificate. `IdentityError`, `UsageError`."""
    from backup.config import parse_duration

    try:
        seconds = parse_duration(wait)
    except ValueError as error:
        raise UsageError(f"--wait: {error}") from error
    first.make_request(name)
    cli.say(f"{first.request}: request of {name}; its key stays here, in {first.private_key}")
    request, certificate = map(os.path.basename, (first.request, first.certificate))
    cli.say(f"have the authority sign it: `nightvault ca sign {request} --dir DIR --out {certificate}`,")
    cli.say(f"and bring the certificate to {first.certificate}: this waits for it, or goes on when run again")
    return first.awaited(cli.clock, seconds)


@click.command()
@pass_cli
def leave(cli: Cli) -> None:
    """Leave the center: remove [center] from the config, which is copied first, and notes of telling it.

    The center is not asked, and need not be there. It keeps what it was told, and soon shows this server as
    silent: `nightvault center remove` there ends that. Certificate and backups stay as they are.
    """
    from backup.app.aws_setup.config_file import check_writable, read_config, replace_config, without_section
    from backup.app.telling.center import forget_center

    config = cli.config()
    if config.center is None:
        raise UsageError("the config has no [center]: this server tells none")
    check_writable(config.path)
    text = read_config(config.path)
    changed = without_section(text, "center")
    copy = replace_config(config.path, text, changed, cli.clock.now())
    forget_center(config)
    told = f"{config.center.url} is told nothing any more; it keeps what it knows until it is removed there"
    cli.report({"center": config.center.url, "config": config.path, "copy": copy}, told)


@click.command()
@click.argument("address", required=False)
@click.option(
    "--ca-file", metavar="FILE", help="Trust these authorities for its TLS instead of the system's."
)
@pass_cli
def tell(cli: Cli, address: str | None, ca_file: str | None) -> None:
    """Tell a center how this server is, signed by its certificate ([identity]).

    ADDRESS is that of [center] in the config, unless another is given. With [center] the daemon and each
    command that ran something tell it by themselves; without a daemon this is for a timer.
    What is told is what `nightvault status --json` says, as changes since the last time. Nothing is taken
    from the center. A center that is away is told later, and keeps no backup waiting: exit code 15.
    """
    from backup.cli.support.telling import tell_center_of

    told = tell_center_of(cli.config(), cli.clock, url=address, ca_file=ca_file)
    anew = ", in a new chain" if told.began_anew else ""
    cli.report(told, f"{told.center} was told: report {told.number}{anew}")
