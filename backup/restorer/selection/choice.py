"""The user's choice of entries to restore and the rules for existing files, as a value that can be stored."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Any

import msgspec

from backup.inventory.content.entries import EntryRow
from backup.model import EntryKind
from backup.source.patterns import Pattern, Patterns, below_or_at, plain_stem

_TEXTS = ("globs", "include", "exclude")


class Overwrite(StrEnum):
    """The rule for files that exist at the target already; part of the interface."""

    ALWAYS = "always"
    IF_CHANGED = "if-changed"  # kept if size and mtime are equal; with `verify`, if its content is
    NEVER = "never"


class Output(StrEnum):
    """The form of a dump on standard output; a restore into a directory has none."""

    NONE = ""
    FILE = "file"
    TAR = "tar"


class Choice(msgspec.Struct, frozen=True, omit_defaults=True):
    """A restore's choice of entries; the default restores everything and overwrites existing files.

    `paths` are absolute, `globs` match absolute paths; both include everything below what they name.
    `include` and `exclude` are patterns with the syntax of a job's: entries under the paths are restored if
    they are included and not excluded.
    """

    paths: tuple[bytes, ...] = ()
    globs: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    overwrite: Overwrite = Overwrite.ALWAYS
    delete: bool = False
    verify: bool = False
    numeric_owner: bool = False
    output: Output = Output.NONE

    @property
    def is_all(self) -> bool:
        """Whether the choice takes every entry."""
        return not (self.paths or self.globs or self.include or self.exclude)

    @property
    def looks(self) -> bool:
        """Whether the result depends on what exists at the target."""
        return self.delete or self.overwrite is not Overwrite.ALWAYS

    def stem(self, base: bytes) -> bytes:
        """Return the deepest directory at or below `base` that holds everything that the paths can name."""
        homes = [path.rpartition(b"/")[0] or b"/" for path in self.paths]
        homes += [plain_stem(glob).encode("utf-8", "surrogateescape") for glob in self.globs]
        if not homes:
            return base
        common = _common(homes)
        return common if is_below(common, base) else base

    def encode(self) -> bytes:
        """Return the choice as canonical bytes: equal choices give equal bytes, non-UTF-8 ones too."""
        fields = msgspec.to_builtins(self, builtin_types=(bytes,))
        texts = {name: [_storable(text) for text in fields[name]] for name in _TEXTS if name in fields}
        return msgspec.msgpack.encode(fields | texts)

    @classmethod
    def decode(cls, data: bytes | None) -> Choice:
        """Return the choice that `encode` packed; the default for no bytes."""
        if not data:
            return cls()
        fields = msgspec.msgpack.decode(data, type=dict[str, Any])
        texts = {name: [os.fsdecode(text) for text in fields[name]] for name in _TEXTS if name in fields}
        return msgspec.convert(fields | texts, cls)


def _storable(text: str) -> str | bytes:
    """The text, or its bytes if it is not valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return os.fsencode(text)
    return text


class Sieve:
    """A filter that applies a choice to the rows of a snapshot, each directory before its content.

    It keeps state for one linear pass.
    """

    def __init__(self, choice: Choice) -> None:
        self._paths = choice.paths
        self._globs: list[Callable[[str], object]] = [below_or_at([glob]) for glob in choice.globs]
        self._met = [False] * len(self._globs)
        self._include = Patterns([Pattern(text, "--include") for text in choice.include])
        self._exclude = Patterns([Pattern(text, "--exclude") for text in choice.exclude])
        self._unmet_patterns = {
            (origin, text): None
            for origin, texts in (("--include", choice.include), ("--exclude", choice.exclude))
            for text in texts
            if not text.startswith(("!", "#")) and text.strip()
        }
        self._by_path = bool(choice.paths or choice.globs)
        self._included: set[bytes] = set()
        self._excluded: set[bytes] = set()

    @property
    def unmet(self) -> Iterable[int]:
        """Return the indexes of the globs that matched nothing."""
        return [index for index, met in enumerate(self._met) if not met]

    @property
    def unmet_patterns(self) -> list[str]:
        """Return the patterns that matched nothing, as options for a message."""
        return [f"{origin} {text!r}" for origin, text in self._unmet_patterns]

    def takes(self, directory: bytes, row: EntryRow) -> bool:
        """Whether the choice takes an entry of an absolute directory."""
        return self.takes_name(directory, row.name, is_directory=row.kind == EntryKind.DIRECTORY)

    def takes_name(self, directory: bytes, name: bytes, *, is_directory: bool) -> bool:
        """Same as `takes`, for a name that need not be in the snapshot."""
        path = directory.rstrip(b"/") + b"/" + name
        if directory in self._excluded or self._names(
            self._exclude, directory, name, is_directory=is_directory
        ):
            if is_directory:
                self._excluded.add(path)
            return False
        if self._include:
            named = self._names(self._include, directory, name, is_directory=is_directory)
            if not (named or directory in self._included):
                return False
            if is_directory:
                self._included.add(path)
        return self._is_named(path)

    def _names(self, patterns: Patterns, directory: bytes, name: bytes, *, is_directory: bool) -> bool:
        if not patterns:
            return False
        by = patterns.leaving_out(directory, name, is_directory=is_directory)
        if by is not None and self._unmet_patterns:
            self._unmet_patterns.pop((by.origin, by.text), None)
        return by is not None

    def _is_named(self, path: bytes) -> bool:
        if not self._by_path:
            return True
        if any(is_below(path, chosen) for chosen in self._paths):
            return True
        text = path.decode("utf-8", "surrogateescape")
        found = False
        for index, matches in enumerate(self._globs):
            if matches(text):
                self._met[index] = found = True
        return found


def is_below(path: bytes, top: bytes) -> bool:
    """Whether a path is `top` or lies below it."""
    return path == top or path.startswith(top.rstrip(b"/") + b"/")


def _common(homes: list[bytes]) -> bytes:
    steps = [home.strip(b"/").split(b"/") for home in homes]
    shared = []
    for level in zip(*steps, strict=False):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return b"/" + b"/".join(shared)
