"""`nightvault diff`: the differences between two snapshots."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import click

from backup.cli.options.snapshot_arguments import Tags, chosen_job, job_option, tag_option
from backup.cli.support.context import Cli, pass_cli
from backup.errors import UsageError
from backup.model import EntryKind

if TYPE_CHECKING:
    from backup.inventory.content.entry_versions import Version
    from backup.inventory.questions.changes import Pair

EXAMPLES = {"diff": ("nightvault diff latest~1 latest", "nightvault diff latest~7 latest /etc")}

_MARKS = {"added": "+", "removed": "-", "changed": "M", "metadata": "U", "kind": "T"}


@dataclass
class _Sums:
    """The counts of differing entries by kind of difference, and their bytes."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_MARKS, 0))
    bytes_added: int = 0
    bytes_removed: int = 0

    def take(self, what: str, before: Version | None, after: Version | None) -> None:
        self.counts[what] += 1
        if what in {"added", "changed", "kind"} and after is not None:
            self.bytes_added += after.size
        if what in {"removed", "changed", "kind"} and before is not None:
            self.bytes_removed += before.size

    def document(self) -> dict[str, object]:
        return {**self.counts, "bytes_added": self.bytes_added, "bytes_removed": self.bytes_removed}


@click.command()
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.argument("path", required=False, default="/")
@job_option
@tag_option
@click.option("--metadata", is_flag=True, help="Also show directories of which only the time changed.")
@pass_cli
def diff(cli: Cli, before: str, after: str, path: str, job: str | None, tags: Tags, metadata: bool) -> None:
    """Show what differs between snapshot A and snapshot B, at and below PATH.

    + added, - removed, M content changed, U metadata only, T another kind of entry.
    """
    from backup.app.base.opened import opened
    from backup.cli.looking.streamed import show_object
    from backup.inventory.content.snapshots import find_snapshot
    from backup.inventory.questions.changes import differing

    if not path.startswith("/"):
        raise UsageError(f"the path {path!r} must be absolute", advice=f"write /{path}")
    below = os.fsencode(path).rstrip(b"/") or b"/"
    config = cli.config()
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        named = chosen_job(config, tx, job)
        first, second = (
            find_snapshot(tx, words, job=named, paths=[below], tags=tags) for words in (before, after)
        )
        if below != b"/":
            _require_in_either(tx, first, second, below)
        sums = _Sums()
        found = _changes_of(differing(tx, first, second, below), sums, with_times=metadata)
        if cli.json:
            head = {"from": first.id, "to": second.id}
            show_object(
                head,
                "changes",
                (_document(*change) for change in found),
                lambda: {"summary": sums.document()},
            )
            return
        for change in found:
            click.echo(_line(*change))
    cli.say(_summary(sums))


def _require_in_either(tx: Any, first: Any, second: Any, path: bytes) -> None:
    from backup.inventory.content.entry_versions import no_such_path, version_at

    if not any(version_at(tx, snapshot.job_number, path, snapshot.number) for snapshot in (first, second)):
        raise no_such_path(tx, second, path)


def _changes_of(
    pairs: Iterator[Pair], sums: _Sums, *, with_times: bool
) -> Iterator[tuple[str, list[str], Version | None, Version | None]]:
    from backup.inventory.content.entry_versions import changes

    for before, after in pairs:
        if before is None or after is None:
            what, how = ("added" if before is None else "removed"), []
        else:
            how = changes(before, after)
            if not how or (how == ["times"] and after.kind == EntryKind.DIRECTORY and not with_times):
                continue
            what = "kind" if "kind" in how else "changed" if "content" in how else "metadata"
        sums.take(what, before, after)
        yield what, how, before, after


def _either(before: Version | None, after: Version | None) -> Version:
    version = after or before
    if version is None:
        raise ValueError("a difference between nothing and nothing")
    return version


def _line(what: str, how: list[str], before: Version | None, after: Version | None) -> str:
    from backup.cli.render.render import shown_path, size

    version = _either(before, after)
    is_directory = version.kind == EntryKind.DIRECTORY
    old = size(before.size) if before and before.kind == EntryKind.FILE else ""
    new = size(after.size) if after and after.kind == EntryKind.FILE else ""
    details = f"  ({', '.join(how)})" if what == "metadata" else ""
    return f"{_MARKS[what]} {old:>10} {new:>10}  {shown_path(version.path)}{'/' * is_directory}{details}"


def _document(what: str, how: list[str], before: Version | None, after: Version | None) -> dict[str, Any]:
    from backup.cli.render.render import path_document

    version = _either(before, after)
    return {
        **path_document(version.path),
        "kind": EntryKind(version.kind).name.lower().replace("_", "-"),
        "what": what,
        "changed": how,
        "size_before": before.size if before else None,
        "size_after": after.size if after else None,
    }


def _summary(sums: _Sums) -> str:
    from backup.cli.render.render import counted, size

    counts = sums.counts
    names = [f"{counts[what]:,} {word}" for what, word in (
        ("added", "added"), ("removed", "removed"), ("changed", "changed"), ("metadata", "metadata only"),
        ("kind", "of another kind"),
    ) if counts[what]]  # fmt: skip
    if not names:
        return "nothing differs"
    total = counted(sum(counts.values()), "entry")
    return f"{total}: {', '.join(names)}; {size(sums.bytes_added)} new, {size(sums.bytes_removed)} gone"
