"""Completion of arguments in a shell: the metavar of a parameter decides what completes it.

`JOB`, `VAULT`, `SNAPSHOT`, `SNAPSHOT:PATH`, `PATH` and open restores are looked up in config and inventory;
`FILE` and `DIR` are the shell's own business. Nothing here may fail or be slow: what cannot be looked up
completes to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem
from click.types import StringParamType

from backup.cli.support.context import Cli

if TYPE_CHECKING:
    from backup.inventory.questions.completing import Peek

COMPLETE_VARIABLE = "_NIGHTVAULT_COMPLETE"  # set by a shell that wants words completed
MORE = "more"  # the type of an item that more may follow: no space behind it
_Lookup = Callable[[click.Context, str], list[CompletionItem]]


def complete_parameters(command: click.Command) -> None:
    """Add to each text parameter of a command the completion that belongs to its metavar."""
    for param in command.params:
        lookup = lookup_of(param)
        if lookup is not None and type(param.type) is StringParamType:
            param.type = _Completed(lookup)


def lookup_of(param: click.Parameter) -> _Lookup | None:
    """Return the function that completes a parameter; None if there is none."""
    for name in (*param.opts, str(param.name)):
        if name in _BY_NAME:
            return _BY_NAME[name]
    return _BY_METAVAR.get(plain_metavar(param))


def plain_metavar(param: click.Parameter) -> str:
    """Return a parameter's metavar without decorations: `[JOB]...` is `JOB`, `FILE|-` is `FILE`."""
    metavar = (param.metavar or str(param.name).upper()).removesuffix("...").removesuffix("|-")
    return metavar.strip("[]") if metavar.startswith("[") else metavar


class _Completed(StringParamType):
    """A text that a shell can complete."""

    def __init__(self, lookup: _Lookup) -> None:
        self._lookup = lookup

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002  click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the completions of a text; none if the look-up fails."""
        try:
            return self._lookup(ctx, incomplete)
        except Exception:  # noqa: BLE001  somebody is typing: no error is worth a line in between
            return []


def _files(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


def _directories(_ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="dir")]


def _jobs(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    jobs = _cli(ctx).config(warns=False).jobs
    return [
        CompletionItem(job.name, help=", ".join(job.paths)) for job in jobs if job.name.startswith(incomplete)
    ]


def _vaults(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    vaults = _cli(ctx).config(warns=False).vaults
    return [
        CompletionItem(vault.name, help=vault.kind) for vault in vaults if vault.name.startswith(incomplete)
    ]


def _jobs_and_snapshots(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    return [*_jobs(ctx, incomplete), *_snapshots(ctx, incomplete)]


def _snapshots(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """`latest`, and the ids that begin so, newest first, each with its job and time."""
    with _peek(ctx) as peek:
        found = peek.snapshots(incomplete.lower())
    items = [
        CompletionItem(snapshot.id[:8], help=f"{snapshot.job}, {_when(snapshot.started_at)}")
        for snapshot in found
    ]
    if "latest".startswith(incomplete):
        items.insert(0, CompletionItem("latest", help="the newest"))
    return items


def _snapshots_and_paths(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """A snapshot, and behind its colon the paths in it, a directory at a time."""
    snapshot, colon, path = incomplete.partition(":")
    if colon:
        return [CompletionItem(f"{snapshot}:{text}", type=kind) for text, kind in _paths(ctx, snapshot, path)]
    found = _snapshots(ctx, incomplete)
    return [CompletionItem(completion.value, type=MORE, help=completion.help) for completion in found]


def _paths_of_snapshot(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    """Paths in the snapshot that an earlier word names, else in the newest ones."""
    words = ctx.params.get("words") or ctx.params.get("before")
    snapshot = words.partition(":")[0] if isinstance(words, str) else "latest"
    return [CompletionItem(text, type=kind) for text, kind in _paths(ctx, snapshot, incomplete)]


def _restores(ctx: click.Context, incomplete: str) -> list[CompletionItem]:
    with _peek(ctx) as peek:
        return [CompletionItem(number) for number in peek.restores() if number.startswith(incomplete)]


def _paths(ctx: click.Context, snapshot: str, begun: str) -> list[tuple[str, str]]:
    """Paths that begin so in a snapshot, with the types of their items; a directory ends with a slash."""
    job = ctx.params.get("job")
    path = os.fsencode(begun) or b"/"
    if not path.startswith(b"/"):
        return []
    with _peek(ctx) as peek:
        found = peek.paths(snapshot, path, job if isinstance(job, str) else None)
    # A name with a newline cannot travel to the shell: it is one line of text a word.
    texts = [(os.fsdecode(name), is_directory) for name, is_directory in found if b"\n" not in name]
    return [(text + "/", MORE) if is_directory else (text, "plain") for text, is_directory in texts]


@contextmanager
def _peek(ctx: click.Context) -> Iterator[Peek]:
    """The inventory, read-only and at once, or not at all."""
    from backup.inventory.questions.completing import peek_into

    with peek_into(_cli(ctx).config(warns=False).inventory_url) as found:
        yield found


def _cli(ctx: click.Context) -> Cli:
    return ctx.ensure_object(Cli)


def _when(microseconds: int) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(microseconds / 1e6, UTC).astimezone():%Y-%m-%d %H:%M}"


_BY_NAME: dict[str, _Lookup] = {
    "--job": _jobs,
    "--vault": _vaults,
    "--disk-gone": _directories,
    "restore_id": _restores,
}
_BY_METAVAR: dict[str, _Lookup] = {
    **dict.fromkeys(("FILE", "FILE|URI", "FILE|prompt", "LINE|FILE"), _files),
    **dict.fromkeys(("CSR", "REQUEST", "ENROLMENT"), _files),
    "DIR": _directories,
    **dict.fromkeys(("JOB", "RUN"), _jobs),  # a run may be named by its job
    "VAULT": _vaults,
    "JOB | SNAPSHOT": _jobs_and_snapshots,
    **dict.fromkeys(("SNAPSHOT", "A", "B"), _snapshots),
    **dict.fromkeys(("SNAPSHOT[:PATH]", "SNAPSHOT:PATH"), _snapshots_and_paths),
    "PATH": _paths_of_snapshot,
}
