"""Writes ARNs into config.toml: comments and order stay, and the old file is copied first.

A note beside the config names a vault that is about to be made.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import tomlkit
from msgspec import Struct
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, Table

from backup.app.aws_setup.model import Wanted
from backup.errors import ConfigError
from backup.files import create_durably, open_small, sync_directory, write_durably

Values = Mapping[str, str]


def with_values(text: str, vault: str, of_vault: Values, anywhere: Values) -> str:
    """Return the config's text with these keys of a vault and of [roles_anywhere] set; all else unchanged.

    `ConfigError` if they cannot be inserted, or another setting would change with them.
    """
    try:
        wanted = _wanted(tomllib.loads(text), vault, of_vault, anywhere)
        document = tomlkit.parse(text)
    except (TOMLKitError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the config cannot be changed: {error}") from error
    tables = document.get("vault")
    table = (
        next((table for table in tables if table.get("name") == vault), None)
        if isinstance(tables, AoT)
        else None
    )
    if table is None:
        raise ConfigError(f"the config has no [[vault]] named {vault}")
    _put(table, of_vault)
    if anywhere:
        if "roles_anywhere" not in document:
            document["roles_anywhere"] = tomlkit.table()
        _put(document["roles_anywhere"], anywhere)
    changed = _with_its_line_ends(tomlkit.dumps(document), text)
    if tomllib.loads(changed) != wanted:
        raise ConfigError("the config cannot be changed: another setting would change with it")
    return changed


def with_section(text: str, name: str, values: Mapping[str, str | Sequence[str]]) -> str:
    """Return the config's text with a new section at its end; all else unchanged. `ConfigError`."""
    try:
        known, section = tomllib.loads(text), tomlkit.table()
        section.update(values)
        added = tomlkit.dumps(tomlkit.document().add(name, section))
    except (TOMLKitError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the config cannot be changed: {error}") from error
    changed = _with_its_line_ends(f"{text.rstrip()}\n\n{added}", text)
    if tomllib.loads(changed) != known | {name: dict(values)}:
        raise ConfigError("the config cannot be changed: another setting would change with it")
    return changed


def without_section(text: str, name: str) -> str:
    """Return the config's text without a section; all else unchanged. `ConfigError`."""
    try:
        wanted, document = tomllib.loads(text), tomlkit.parse(text)
        del wanted[name]
        document.remove(name)
    except (TOMLKitError, tomllib.TOMLDecodeError, KeyError) as error:
        raise ConfigError(f"the config cannot be changed: {error}") from error
    changed = _with_its_line_ends(f"{tomlkit.dumps(document).rstrip()}\n", text)
    if tomllib.loads(changed) != wanted:
        raise ConfigError("the config cannot be changed: another setting would change with it")
    return changed


def _put(table: Any, values: Values) -> None:
    """Put keys into a table, new ones below its last key: a comment at its end is about what comes next."""
    body = table.value.body if isinstance(table, Table) else []
    after = []
    while body and body[-1][0] is None:
        after.append(body.pop()[1])
    for key, value in values.items():
        if table.get(key) != value:
            table[key] = value
    for part in reversed(after):
        table.value.append(None, part)


def _wanted(document: dict[str, Any], vault: str, of_vault: Values, anywhere: Values) -> dict[str, Any]:
    """The document that the changed text must parse to."""
    for table in document.get("vault", ()):
        if table.get("name") == vault:
            table.update(of_vault)
            break
    if anywhere:
        document.setdefault("roles_anywhere", {}).update(anywhere)
    return document


def _with_its_line_ends(changed: str, text: str) -> str:
    """New lines end as all of the file's do."""
    if not text.count("\n") or text.count("\r\n") != text.count("\n"):
        return changed
    return changed.replace("\r\n", "\n").replace("\n", "\r\n")


def read_config(path: str) -> str:
    """Return the text of the file, with its line ends unchanged."""
    with (
        _translated_errors(path, "read"),
        open(path, encoding="utf-8", newline="", opener=open_small) as file,
    ):
        return file.read()


def check_writable(path: str) -> None:
    """Raise `ConfigError` if the file cannot be replaced; called before anything is made in AWS."""
    directory = os.path.dirname(os.path.realpath(path))
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(
            f"the config {path} could not be changed afterwards: {directory} is not writable",
            advice="run the command as a user who may write there",
        )


def replace_config(path: str, old: str, new: str, now: datetime) -> str | None:
    """Replace the file, with the same mode and owner, after a copy beside it. None if nothing changed.

    Returns the path of the copy. If the path is a symlink, its target is replaced.
    """
    if old == new:
        return None
    place = os.path.realpath(path)
    with _translated_errors(path, "changed"):
        known = os.stat(place)
        mode = known.st_mode & 0o777
        copy = _copy(f"{place}.{now:%Y%m%dT%H%M%S}", old.encode(), mode)
        write_durably(place, new.encode(), mode=mode)
        for written in (copy, place):
            _give_to(written, known)
    return copy


def _copy(path: str, data: bytes, mode: int) -> str:
    """Keep bytes in a new file; its path, which has a number if there is one of that second already."""
    number, name = 1, path
    while True:
        try:
            create_durably(name, data, mode=mode)
        except FileExistsError:
            number += 1
            name = f"{path}-{number}"
        else:
            return name


def _give_to(path: str, known: os.stat_result) -> None:
    """Give a file to the old one's owner and group: root may set up what another user's daemon reads."""
    now = os.stat(path)
    if (now.st_uid, now.st_gid) != (known.st_uid, known.st_gid):
        os.chown(path, known.st_uid, known.st_gid)


@contextmanager
def _translated_errors(path: str, what: str) -> Iterator[None]:
    """An error of the disk as `ConfigError`."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"the config {path} cannot be {what}: {error.strerror}") from error


class Note(Struct, frozen=True):
    """The note that a vault is about to be made: a set-up's name, an account, a region and the vault's name.

    A vault of Glacier takes its tag only by a second call. Between the two, nothing in AWS says whose it is.
    """

    path: str
    text: str

    def is_there(self) -> bool:
        """Whether the note names exactly this vault and set-up; False if it cannot be read."""
        with suppress(OSError, UnicodeDecodeError), open(self.path, encoding="utf-8") as file:
            return file.read() == self.text
        return False

    def write(self) -> None:
        """Write the note to disk, before the vault is made. `OSError`."""
        write_durably(self.path, self.text.encode())

    def remove(self) -> None:
        """Remove the note: the vault has its tag, or is gone. `OSError`."""
        with suppress(FileNotFoundError):
            os.unlink(self.path)
            sync_directory(os.path.dirname(self.path))


def note_of(config: str, wanted: Wanted) -> Note | None:
    """Return the note for a set-up's Glacier vault; None for a bucket, which is created with its tag."""
    if wanted.vault is None:
        return None
    values = {
        "setup": wanted.name,
        "account": wanted.setup.account,
        "region": wanted.setup.region,
        "vault": wanted.vault,
    }
    number = hashlib.sha256(json.dumps(values).encode()).hexdigest()[:12]
    said = {"making": values, "removed": "by setup aws, once the vault has its tag"}
    return Note(f"{os.path.realpath(config)}.making-{number}", json.dumps(said, indent=2) + "\n")
