"""`nightvault update`: keeps a profile of the AWS credentials file up to date with temporary keys."""

from __future__ import annotations

import os
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from backup.cli.keys.identity_flags import Flags, identity_of, options_of, session_flags, source_of
from backup.cli.support.context import Cli, pass_cli
from backup.cli.support.error_stream import write_unread
from backup.errors import NightvaultError, UsageError

if TYPE_CHECKING:
    from backup.model import Credentials

LONGEST_SLEEP = 60.0
"""The longest sleep in seconds, so that a laptop looks at the time soon after it wakes."""

RETRY = timedelta(seconds=60)
_MOST_BYTES = 16 << 20  # of a credentials file


@click.command()
@session_flags
@click.option(
    "--profile", default="default", metavar="NAME", help="The profile to write; 'default' if not given."
)
@click.option("--once", is_flag=True, help="Write once and exit.")
@pass_cli
def update(cli: Cli, /, profile: str, once: bool, **given: Any) -> None:
    """Write temporary keys into a profile of ~/.aws/credentials and renew them until interrupted.

    The file (or AWS_SHARED_CREDENTIALS_FILE) is replaced whole, under a lock, with mode 0600; everything else
    in it stays byte for byte. A renewal that fails is told and tried again. The flags are the AWS helper's.
    """
    if not once:
        write_unread()
    flags = Flags(**given)
    files = identity_of(cli, flags)
    options = options_of(cli, flags)
    source = source_of(cli, flags, files, options)
    path = credentials_path()
    due = _write(cli, path, profile, source.credentials())
    while not once:
        wait = (due - cli.clock.now()).total_seconds()
        if wait > 0:
            cli.clock.sleep(min(wait, LONGEST_SLEEP))
            continue
        try:
            due = _write(cli, path, profile, source.credentials())
        except (NightvaultError, OSError) as error:
            cli.warn(f"nightvault: {error}; trying again in {RETRY.seconds} s")
            cli.clock.sleep(RETRY.seconds)  # and not until a time: the clock may be wrong just now


def credentials_path() -> str:
    """Return the path of the credentials file that AWS tools read."""
    named = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    home = os.environ.get("HOME") or os.path.expanduser("~")
    return os.path.expanduser(named) if named else os.path.join(home, ".aws", "credentials")


def _write(cli: Cli, path: str, profile: str, credentials: Credentials) -> datetime:
    """Write the keys, and return the time at which they are due for renewal."""
    from backup.credentials.rolesanywhere import renewal_margin

    write_profile(path, profile, credentials)
    now = cli.clock.now()
    expires = credentials.expires_at or now
    cli.say(f"nightvault: profile {profile} in {path} has keys until {expires:%Y-%m-%d %H:%M:%S} UTC")
    return max(expires - renewal_margin(expires - now), now + timedelta(seconds=30))


def write_profile(path: str, profile: str, credentials: Credentials) -> None:
    """Write keys into the profile: the whole file is replaced, under a lock against our other processes."""
    from backup.credentials.serving.profile import with_profile
    from backup.files import file_lock, read_small, write_durably
    from backup.safe_paths import held_folder, make_folders

    try:
        make_folders(os.path.dirname(path) or ".")
        with held_folder(path, follows=True) as (folder, name):  # a link of ours stays one
            here = f"/proc/self/fd/{folder}/{name}"
            with file_lock(f"{here}.lock", wait=True):
                before = read_small(here, _MOST_BYTES) if os.path.lexists(here) else b""
                if b"\x00" in before:
                    raise UsageError(f"{path} is no credentials file: it holds NUL bytes")
                write_durably(name, with_profile(before, profile, credentials), dir_fd=folder)
    except OSError as error:
        raise NightvaultError(f"the credentials file {path} cannot be written: {error.strerror}") from error
