"""`nightvault emulator`: runs a local AWS, and controls one that is running."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import click

from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.grouping import CommandWithSubcommands
from backup.errors import NightvaultError, UnreachableError, UsageError

EXAMPLES = {
    "emulator": (
        "nightvault emulator --state aws --accounts accounts.toml --port 9090",
        "nightvault emulator --state aws --accounts accounts.toml --speed 10000",
    ),
    "emulator advance": (
        "nightvault emulator advance 5h --admin http://127.0.0.1:9090",
        "nightvault emulator advance 2d --admin http://127.0.0.1:9090",
    ),
    "emulator inventory": (
        "nightvault emulator inventory --admin http://127.0.0.1:9090",
        "nightvault emulator inventory --admin http://127.0.0.1:9090 --json",
    ),
    "emulator fault": (
        "nightvault emulator fault '[]' --admin http://127.0.0.1:9090",
        'nightvault emulator fault \'[{"operation": "UploadArchive"}]\' --admin $URL',
    ),
}

_PARTS = re.compile(r"([0-9]+(?:\.[0-9]+)?)([dhms])")
_ALL_PARTS = re.compile(rf"(?:{_PARTS.pattern}\s*)+")
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0}

admin_option = click.option(
    "--admin",
    metavar="URL",
    envvar="NIGHTVAULT_EMULATOR_ADMIN",
    show_envvar=True,
    required=True,
    help="The emulator's admin URL, as it printed it.",
)


@click.command(cls=CommandWithSubcommands)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port; 0 takes a free one.")
@click.option("--s3-port", type=click.IntRange(0, 65535), default=0, help="S3's port; 0 takes a free one.")
@click.option("--state", required=True, metavar="DIR", help="The directory of vaults, jobs and keys.")
@click.option("--accounts", required=True, metavar="FILE", help="The accounts file (TOML); docs/emulator.md.")
@click.option(
    "--speed", type=click.FloatRange(min=1.0), default=1.0, help="Emulated seconds per real second."
)
@click.option("--tls-cert", metavar="FILE", help="Serve TLS with this certificate.")
@click.option("--tls-key", metavar="FILE", help="The key of that certificate.")
@click.option("--faults", metavar="FILE", help="Faults planned from the start (TOML or JSON).")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Change a setting.")
@click.option(
    "--idle-seconds",
    type=click.FloatRange(min=0.1),
    default=60.0,
    help="Answer a stalled body with 408 after so long.",
)
def emulator(
    host: str,
    port: int,
    s3_port: int,
    state: str,
    accounts: str,
    speed: float,
    tls_cert: str | None,
    tls_key: str | None,
    faults: str | None,
    settings: tuple[str, ...],
    idle_seconds: float,
) -> None:
    """Run a local Glacier, S3 and Roles Anywhere until SIGTERM or Ctrl-C.

    When it listens it prints one line of JSON with its URLs on standard output. For clients that list a
    vault or delete it at once: `--speed 10000 --set inventory_at_once=true`.
    """
    try:
        from backup.emulator.core.errors import EmulatorError
        from backup.emulator.core.state.settings import read_settings
        from backup.emulator.server import EmulatorOptions, serve
    except ImportError as error:
        from backup.installed import how_to_add

        raise UsageError(
            "the emulator's libraries are not installed", advice=how_to_add("emulator")
        ) from error
    try:
        options = EmulatorOptions(
            state=Path(state),
            accounts=Path(accounts),
            host=host,
            port=port,
            s3_port=s3_port,
            speed=speed,
            tls_cert=Path(tls_cert) if tls_cert else None,
            tls_key=Path(tls_key) if tls_key else None,
            idle_seconds=idle_seconds,
            faults=Path(faults) if faults else None,
            settings=read_settings(settings),
        )
        serve(options)
    except EmulatorError as error:
        raise NightvaultError(str(error)) from error


def _seconds(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """The seconds of a duration: numbers of days, hours, minutes and seconds (`4h`, `1d12h`), or `90`."""
    text = value.strip()
    parts = _PARTS.findall(text)
    try:
        seconds = float(text) if not parts else sum(float(n) * _SECONDS[unit] for n, unit in parts)
    except ValueError:
        seconds = -1
    if seconds < 0 or not math.isfinite(seconds) or (parts and not _ALL_PARTS.fullmatch(text)):
        why = f"{value!r} is no duration: write 4h, 30m, 2d, 1d12h, or seconds"
        raise click.BadParameter(why, ctx, param)
    return seconds


@emulator.subcommand("advance")
@click.argument("duration", callback=_seconds)
@admin_option
@pass_cli
def advance(cli: Cli, duration: float, admin: str) -> None:
    """Step a running emulator's clock: by 4h, 30m, 2d, 1d12h, or by seconds."""
    answer = _post(admin, "clock", {"advance_seconds": duration})
    cli.show(answer, f"the emulator's clock was moved on by {duration:g} s, to {answer['now']}")


@emulator.subcommand("inventory")
@admin_option
@pass_cli
def inventory(cli: Cli, admin: str) -> None:
    """Let every vault of a running emulator make its inventory now."""
    cli.show(_post(admin, "inventories", None), "every vault has made its inventory")


@emulator.subcommand("fault")
@click.argument("faults", metavar="JSON")
@admin_option
@pass_cli
def fault(cli: Cli, faults: str, admin: str) -> None:
    """Plan faults in a running emulator, as docs/emulator.md describes them."""
    try:
        planned = json.loads(faults)
    except ValueError as error:
        raise UsageError(f"this is no JSON: {error}") from error
    cli.show(_post(admin, "faults", planned), "the faults are planned")


def _post(admin: str, what: str, body: Any) -> Any:
    import urllib3

    url = admin.rstrip("/")
    url = url if url.endswith("/_admin") else f"{url}/_admin"
    try:
        answer = urllib3.request("POST", f"{url}/{what}", json=body, timeout=10, retries=False)
    except urllib3.exceptions.HTTPError as error:
        raise UnreachableError(f"no emulator answers at {admin}: {error}") from error
    if answer.status >= 300:
        raise UsageError(f"the emulator refuses: {answer.data.decode(errors='replace')}")
    return json.loads(answer.data) if answer.data else {}
