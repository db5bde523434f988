"""Reads recovery keys from files or the terminal, and writes a new one to a new file."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from backup.errors import RecoveryKeyError, UsageError
from backup.files import create_durably, open_small

if TYPE_CHECKING:
    from backup.format.keys import RecoveryKey

_LARGEST = 64 * 1024
_TRIES = 3
_KEY = re.compile(r"NVK1-[0-9A-Za-z][0-9A-Za-z\s-]*", re.IGNORECASE)
KEY_WAS_SEEN = (
    "give --key FILE, or --key - and the key on standard input: what is in a command's words can be seen by "
    "other users of this machine, and stays in the shell's history"
)


def holds_key(text: str) -> bool:
    """Whether a text contains a recovery key or the beginning of one."""
    return _KEY.search(text) is not None


def without_keys(text: str) -> str:
    """Return the text with every recovery key replaced."""
    return _KEY.sub("NVK1-…", text)


def read_passphrase_file(path: str | None, what: str = "passphrase file") -> bytes | None:
    """Return the first line of a passphrase file, without its line end; None if no file was given."""
    if path is None:
        return None
    try:
        with open(path, "rb", opener=open_small) as file:
            passphrase = file.readline(_LARGEST).rstrip(b"\r\n")
    except OSError as error:
        named = f" {path}" if "/" in path else ""  # else somebody may have given the passphrase itself
        raise UsageError(f"cannot read the {what}{named}: {error.strerror}") from error
    if not passphrase:
        raise UsageError(f"the {what} {path} is empty")
    return passphrase


def write_key_file(path: str, key: RecoveryKey, passphrase: bytes | None) -> None:
    """Write a recovery key to a new file of mode 0600; an existing file is never overwritten."""
    from backup.format.keys import plain_key_file, protect

    data = (
        plain_key_file(key)
        if passphrase is None
        else protect(key, passphrase, salt=os.urandom(16), nonce=os.urandom(12))
    )
    try:
        create_durably(path, data)
    except FileExistsError as error:
        raise UsageError(
            f"{path} is there already", advice="a recovery key is never written over: give another name"
        ) from error
    except OSError as error:
        raise UsageError(f"cannot write the key file {path}: {error.strerror}") from error


def read_key(source: str | None, passphrase_file: str | None) -> RecoveryKey:
    """Return the recovery key from a file, from standard input (`-`), or typed on the terminal (None)."""
    from backup.format.keys import parse_key_file

    if source is None:
        return _typed_key(passphrase_file)
    if source == "-":
        data = sys.stdin.buffer.read(_LARGEST)
    else:
        try:
            with open(source, "rb", opener=open_small) as file:
                data = file.read(_LARGEST + 1)
                _warn_of_readers(source, os.fstat(file.fileno()).st_mode, data)
        except OSError as error:
            if holds_key(source):
                raise RecoveryKeyError(
                    "--key takes the name of a file, and was given a recovery key itself", advice=KEY_WAS_SEEN
                ) from error
            raise RecoveryKeyError(f"cannot read the key file {source}: {error.strerror}") from error

    given = read_passphrase_file(
        passphrase_file
    )  # also of a key that needs none: one that is not there is told

    def passphrase() -> bytes:
        return given or _ask("passphrase of the key file")

    return parse_key_file(data, passphrase)


def _warn_of_readers(path: str, mode: int, data: bytes) -> None:
    """Say that others may read a key; not of one that has a passphrase."""
    if mode & 0o077 and stat.S_ISREG(mode) and holds_key(data.decode(errors="replace")):
        import shlex

        click.echo(
            f"warning: {path} has the mode {stat.S_IMODE(mode):04o}: others may read this recovery key, and"
            f" with it every backup; chmod 600 {shlex.quote(path)}, and see docs/security.md if they did",
            err=True,
        )


def read_keys(sources: Sequence[str], passphrase_files: Sequence[str]) -> list[RecoveryKey]:
    """Return the keys of the files, with a passphrase file for each or one for all; else a typed key."""
    if len(passphrase_files) > 1 and len(passphrase_files) != len(sources):
        raise UsageError("--passphrase-file must be given once, or once for each --key")
    if not sources:
        return [read_key(None, passphrase_files[0] if passphrase_files else None)]
    each = passphrase_files if len(passphrase_files) > 1 else [*passphrase_files, None][:1] * len(sources)
    return [read_key(source, file) for source, file in zip(sources, each, strict=True)]


def _typed_key(passphrase_file: str | None) -> RecoveryKey:
    """The key that somebody types; what is no key is asked for again, three times in all."""
    from backup.format.keys import RecoveryKey

    read_passphrase_file(passphrase_file)  # a typed key needs none; one that is not there is told
    tries = 1
    while True:
        text = _typed().decode()
        try:
            return RecoveryKey.from_text(text)
        except RecoveryKeyError as error:
            if tries == _TRIES:
                raise
            click.echo(f"{error}; type it again", err=True)
            tries += 1


def _typed() -> bytes:
    if not sys.stdin.isatty():
        raise RecoveryKeyError(
            "the recovery key is needed", advice="give --key FILE, or --key - and the key on standard input"
        )
    return _ask("recovery key (NVK1-…)")


def _ask(question: str) -> bytes:
    if not sys.stdin.isatty():
        raise RecoveryKeyError(
            f"there is no terminal to type the {question}", advice="give --passphrase-file FILE"
        )
    with typed():
        answer: str = click.prompt(question, hide_input=True, err=True)
    return answer.encode()


@contextmanager
def typed() -> Iterator[None]:
    """Read hidden answers in the body as UTF-8, whatever the locale. `UsageError` for other bytes."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise UsageError(
            "what was typed is no UTF-8 text", advice="set the terminal to UTF-8, or give it in a file"
        ) from error
