"""Opens a certificate authority with the options that all commands of `ca` share."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING

import click

from backup.cli.support.keyfiles import typed
from backup.errors import UsageError
from backup.files import read_small

if TYPE_CHECKING:
    from backup.pki.authority import Authority

PROMPT = "prompt"


def _require_own(_context: click.Context, _option: click.Parameter, directory: str) -> str:
    """Refuse an authority's directory that others can change or replace. `IdentityError`."""
    from backup.errors import IdentityError
    from backup.owners import hazard_of_way

    path = os.path.abspath(directory)
    try:
        hazard = hazard_of_way(path)
    except OSError as error:
        raise IdentityError(f"{directory} cannot be looked at: {error.strerror}") from error
    if hazard is not None:
        place = "another place, where only you and root may write"
        raise IdentityError(
            f"the authority's directory {directory} is not used: {hazard.why}",
            advice=hazard.command if hazard.path == path else f"{hazard.command}; or choose {place}",
        )
    return directory


directory_option = click.option(
    "--dir",
    "directory",
    required=True,
    metavar="DIR",
    help="The authority's directory.",
    callback=_require_own,
)
passphrase_option = click.option(
    "--passphrase-file",
    metavar="FILE|prompt",
    help="The file of the CA key's passphrase; prompt asks for it.",
)


MOST_DAYS = 36_500
_MOST_BYTES = 16 << 20  # of a request, or of a list of servers
DAYS = click.IntRange(1, MOST_DAYS)
"""Days of validity: no certificate outlives a hundred years."""


def require_authority(directory: str) -> None:
    """Raise `IdentityError` if the directory has no authority."""
    from backup.errors import IdentityError
    from backup.pki.index import certificate_path

    if not any(os.path.exists(certificate_path(directory, root)) for root in (1, 2)):
        raise IdentityError(
            f"there is no certificate authority in {directory}",
            advice="check --dir; `nightvault ca create` makes one",
        )


def open_authority(directory: str, passphrase_file: str | None) -> Authority:
    """Open the authority; ask for its passphrase if its key has one and no passphrase file was given."""
    from backup.pki.authority import open_ca

    return open_ca(directory, present_passphrase(directory, passphrase_file))


def present_passphrase(directory: str, passphrase_file: str | None) -> bytes | None:
    """Return the passphrase of the authority's key: from its file, or typed if the key has one."""
    from backup.credentials.identity import read_passphrase
    from backup.pki.authority import key_is_encrypted

    if passphrase_file not in {None, PROMPT}:
        return read_passphrase(str(passphrase_file), named_by="--passphrase-file")
    if passphrase_file == PROMPT or key_is_encrypted(directory):
        return _ask("passphrase of the CA key", confirm=False)
    return None


def new_passphrase(passphrase_file: str | None) -> bytes | None:
    """Return the passphrase for a new key; None for a key without passphrase."""
    from backup.credentials.identity import read_passphrase

    if passphrase_file is None:
        return None
    if passphrase_file == PROMPT:
        return _ask("new passphrase for the CA key", confirm=True)
    return read_passphrase(passphrase_file, named_by="--passphrase-file")


def _ask(question: str, *, confirm: bool) -> bytes:
    try:
        with warnings.catch_warnings(), typed():
            warnings.simplefilter("ignore")  # that there is no terminal is told in our words
            answer: str = click.prompt(question, hide_input=True, confirmation_prompt=confirm, err=True)
    except click.Abort as error:
        if sys.stdin.isatty():
            raise
        raise UsageError(
            f"there is no terminal to type the {question}", advice="give its file: --passphrase-file FILE"
        ) from error
    return answer.encode()


def read_input(path: str, what: str) -> bytes:
    """Return the bytes of a file, or of standard input for `-`. `UsageError` if it cannot be read."""
    try:
        if path == "-":
            return sys.stdin.buffer.read()
        return read_small(path, _MOST_BYTES)
    except OSError as error:
        raise UsageError(f"cannot read the {what} {path}: {error.strerror}") from error
