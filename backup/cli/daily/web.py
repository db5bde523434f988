"""`nightvault web`: the page, its users and its tokens."""

from __future__ import annotations

import logging
import os
import sys
from functools import partial

import click

from backup.cli.support.context import Cli, pass_cli
from backup.errors import ConfigError, UsageError

EXAMPLES = {
    "web": ("nightvault web", "nightvault web --listen unix:/run/nightvault-web/page.sock"),
    "web user add": ("nightvault web user add ada --role operator", "nightvault web user add vi --link"),
    "web user list": ("nightvault web user list", "nightvault web user list --json"),
    "web user remove": ("nightvault web user remove vi", "nightvault web user remove vi --json"),
    "web token add": (
        "nightvault web token add grafana --user ada --scope metrics",
        "nightvault web token add script --user ada --days 30",
    ),
    "web token list": ("nightvault web token list", "nightvault web token list --json"),
    "web token remove": ("nightvault web token remove grafana", "nightvault web token remove script --json"),
}

_LISTEN = "Where to listen: ADDRESS:PORT, or unix:PATH; goes before [web]."


@click.group(invoke_without_command=True)
@click.option("--listen", metavar="ADDRESS", help=_LISTEN)
@click.option("--behind-proxy", is_flag=True, help="A proxy in front of the page does TLS.")
@click.pass_context
def web(context: click.Context, listen: str | None, behind_proxy: bool) -> None:
    """Serve the web page until SIGTERM or Ctrl-C: status, runs, and the contents of snapshots.

    Without a login nothing is shown: first add a user by `nightvault web user add NAME`. The page has no
    keys and deletes nothing; for operators it asks the daemon to run, pause and resume jobs.
    """
    _require_packages()
    if context.invoked_subcommand is not None:
        return
    cli = context.ensure_object(Cli)
    from backup.cli.support.error_stream import write_unread
    from backup.cli.support.logs import log_to_stderr
    from backup.cli.support.page_setup import serve

    config = cli.config()
    write_unread()
    log_to_stderr(config.monitoring.log, quiet=cli.quiet, verbose=cli.verbose, environ=os.environ)
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
    serve(config, cli.clock, listen=listen, behind_proxy=behind_proxy, say=cli.say)


def _require_packages() -> None:
    try:
        import jinja2  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        from backup.installed import how_to_add

        raise ConfigError(
            f"the page needs packages that are not installed: {error.name}", advice=how_to_add("web")
        ) from error


@web.group()
def user() -> None:
    """Users of the page: add, list, remove."""


@user.command("add")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["viewer", "operator"]),
    default="viewer",
    show_default=True,
    help="Whether the user only looks, or also runs jobs.",
)
@click.option("--password-file", metavar="FILE", help="Read the password from a file; - is standard input.")
@click.option("--link", is_flag=True, help="Print a link by which the user sets the password, once.")
@pass_cli
def add_user(cli: Cli, name: str, role: str, password_file: str | None, link: bool) -> None:
    """Add user NAME: a viewer looks, an operator may also run, pause and resume jobs.

    With --link, a user who is there already gets a new link, which works once, within a day.
    """
    from backup.cli.support.page_setup import accounts, check_name, link_address
    from backup.web.guard.passwords import check_password, hash_password
    from backup.web.guard.users import Role

    config, now = cli.config(), cli.clock.now()
    check_name(name)
    if link:
        with accounts(config) as file:
            if file.role_of(name) is None:
                file.add_user(name, Role(role), None, now)
            address = link_address(config, file.make_link(name, now))
        cli.show({"name": name, "link": address}, address)
        return
    password = _password(cli, password_file)
    check_password(password, name)
    hashed = hash_password(password)
    with accounts(config) as file:
        file.add_user(name, Role(role), hashed, now)
        file.note("command line", f"added the {role} {name}", now)
    cli.report({"name": name, "role": role}, f"the {role} {name} may log in")


def _password(cli: Cli, path: str | None) -> str:
    from backup.cli.support.keyfiles import read_passphrase_file, typed

    if path == "-":
        return sys.stdin.readline().rstrip("\r\n")
    if path is not None:
        return (read_passphrase_file(path, "password file") or b"").decode(errors="replace")
    if not cli.can_ask:
        raise UsageError(
            "there is no terminal to type a password", advice="give --password-file FILE, or --link"
        )
    with typed():
        return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


@user.command("list")
@pass_cli
def list_users(cli: Cli) -> None:
    """List the page's users."""
    from backup.cli.render.render import table
    from backup.cli.support.page_setup import accounts

    with accounts(cli.config()) as file:
        users = file.users()
    rows = [
        (account.name, str(account.role), "yes" if account.has_password else "not yet") for account in users
    ]
    cli.show(users, table(["name", "role", "password"], rows))


@user.command("remove")
@click.argument("name")
@pass_cli
def remove_user(cli: Cli, name: str) -> None:
    """Remove user NAME; sessions and tokens of that user end at once."""
    _remove(cli, "user", name)


@web.group()
def token() -> None:
    """Tokens by which programs read the API or the metrics: add, list, remove."""


@token.command("add")
@click.argument("name")
@click.option(
    "--scope",
    type=click.Choice(["api", "metrics"]),
    default="api",
    show_default=True,
    help="What it gives access to.",
)
@click.option("--user", required=True, metavar="NAME", help="The token's user; it ends with that user.")
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="It expires then.")
@pass_cli
def add_token(cli: Cli, name: str, scope: str, user: str, days: int) -> None:
    """Make token NAME of a user and print it, this once: only its hash is kept. A token can only read."""
    from datetime import timedelta

    from backup.cli.support.page_setup import accounts, check_name
    from backup.web.guard.users import Scope

    check_name(name)
    now = cli.clock.now()
    until = now + timedelta(days=days)
    with accounts(cli.config()) as file:
        secret = file.add_token(name, user, Scope(scope), until, now)
        file.note("command line", f"made the token {name} of {user}", now)
    cli.show({"name": name, "user": user, "scope": scope, "until": until, "token": secret}, secret)


@token.command("list")
@pass_cli
def list_tokens(cli: Cli) -> None:
    """List the tokens, without what is secret in them."""
    from backup.cli.render.render import table
    from backup.cli.support.page_setup import accounts

    with accounts(cli.config()) as file:
        found = file.tokens()
    rows = [
        (api_token.name, api_token.user, str(api_token.scope), f"{api_token.until:%Y-%m-%d}")
        for api_token in found
    ]
    cli.show(found, table(["name", "user", "scope", "until"], rows))


@token.command("remove")
@click.argument("name")
@pass_cli
def remove_token(cli: Cli, name: str) -> None:
    """Remove token NAME, which opens nothing any more from then on."""
    _remove(cli, "token", name)


def _remove(cli: Cli, noun: str, name: str) -> None:
    from backup.cli.support.page_setup import accounts, check_name

    check_name(name)
    with accounts(cli.config()) as file:
        removals = {"user": partial(file.remove_user, name), "token": partial(file.remove_token, name)}
        if not removals[noun]():
            raise UsageError(f"there is no {noun} named {name}", advice=f"`nightvault web {noun} list`")
        file.note("command line", f"removed the {noun} {name}", cli.clock.now())
    cli.report({"removed": name}, f"the {noun} {name} is removed")
