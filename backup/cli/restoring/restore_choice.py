"""Options that choose the files of a restore and what it may replace, and the questions before it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click
from msgspec import Struct

from backup.cli.options.snapshot_arguments import saved_path
from backup.cli.support.context import Cli
from backup.errors import UsageError

if TYPE_CHECKING:
    from backup.config import Config
    from backup.inventory.content.snapshots import Snapshot
    from backup.inventory.store.connections import Transaction
    from backup.restorer.restore import RestorePlan
    from backup.restorer.selection.choice import Choice
    from backup.safe_paths import Way

_SHOWN = 10
VOLUME = "volume:"
"""The beginning of a target that is a volume of containers."""
_OPTIONS = [
    click.option(
        "--include", metavar="PATTERN", multiple=True, help="Only what matches PATTERN, as in .gitignore."
    ),
    click.option("--exclude", metavar="PATTERN", multiple=True, help="Leave out what matches PATTERN."),
    click.option(
        "--overwrite",
        type=click.Choice(["always", "if-changed", "never"]),
        help="Which existing files are replaced: always is the default until 1.0, and asks on a "
        "terminal. if-changed goes by size and time.",
    ),
    click.option("--delete", is_flag=True, help="Remove what is not in the snapshot; asks, or needs --yes."),
    click.option(
        "--verify",
        is_flag=True,
        help="Read what was written from the disk, and compare it; if-changed compares contents.",
    ),
    click.option(
        "--yes",
        is_flag=True,
        help="Replace and remove without asking; restore also to where other users can change the way.",
    ),
]  # fmt: skip


def choice_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add to a command the options that choose files and say what may be replaced."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def made_choice(
    *,
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    overwrite: str | None,
    delete: bool,
    verify: bool,
    numeric_owner: bool,
    output: str = "",  # one of `Output`
) -> Choice:
    """Return the choice that the options describe. `UsageError` for an invalid pattern."""
    from backup.errors import ConfigError
    from backup.restorer.selection.choice import Choice, Output, Overwrite, Sieve

    choice = Choice(
        include=include,
        exclude=exclude,
        overwrite=Overwrite(overwrite or "always"),
        delete=delete,
        verify=verify,
        numeric_owner=numeric_owner,
        output=Output(output),
    )
    try:
        Sieve(choice)
    except ConfigError as error:
        raise UsageError(str(error)) from error
    return choice


class NamedPath(Struct, frozen=True):
    """A PATH argument: as an absolute path, and as an absolute glob in case it has wildcards."""

    path: bytes
    glob: str


def chosen_paths(base: bytes, paths: Sequence[str]) -> list[NamedPath]:
    """Return the PATHs as absolute paths; relative ones are below `base`. `UsageError` if one leaves it.

    Globs work as for `find`, below `base`: without a slash they match names; with a slash they match paths
    from any directory on, or from the root if they begin with a slash.
    """
    found: list[NamedPath] = []
    stem = base.rstrip(b"/") + b"/"
    for path in map(os.fsencode, paths):
        whole = path if path.startswith(b"/") else stem + path
        normal = os.path.normpath(whole)
        if not normal.startswith(stem):
            raise UsageError(f"{os.fsdecode(path)!r} is not below {os.fsdecode(base)!r}")
        anywhere = normal if path.startswith(b"/") else stem + b"**/" + normal.removeprefix(stem)
        found.append(NamedPath(normal, anywhere.decode("utf-8", "surrogateescape")))
    return found


def with_paths(tx: Transaction, snapshot: Snapshot, choice: Choice, paths: Sequence[NamedPath]) -> Choice:
    """Return the choice with the paths; one with wildcards is a glob, unless an entry has that name."""
    import msgspec

    from backup.inventory.content.entries import entry_at
    from backup.source.patterns import has_magic

    plain: list[bytes] = []
    globs: list[str] = []
    for path in paths:
        magic = has_magic(path.path.decode("utf-8", "surrogateescape"))
        if magic and entry_at(tx, snapshot.job_number, path.path, snapshot.number) is None:
            globs.append(path.glob)
        else:
            plain.append(saved_path(tx, snapshot, path.path))
    return msgspec.structs.replace(choice, paths=tuple(plain), globs=tuple(globs))


def tell_unmet(cli: Cli, plan: RestorePlan) -> None:
    """Warn of patterns and paths that match nothing, and of entries at the target that are left alone.

    `UsageError` if patterns exclude everything.
    """
    some, chosen = plan.selection, plan.choice
    if chosen.exclude and not some.names and not some.directories:
        raise UsageError(
            f"nothing of snapshot {plan.snapshot.id[:8]} is left: all of it is excluded, by "
            + ", ".join(f"--exclude {pattern!r}" for pattern in chosen.exclude),
            advice="leave a pattern out, or let one that begins with ! take something back",
        )
    for option in plan.selection.unmet:
        cli.warn(f"{option} names nothing in snapshot {plan.snapshot.id[:8]}")
    for sentence in plan.left_alone[:_SHOWN]:
        cli.warn(f"warning: {sentence}")
    if len(plan.left_alone) > _SHOWN:
        cli.warn(f"warning: … and {len(plan.left_alone) - _SHOWN:,} more like these")


def confirm_changes(cli: Cli, plan: RestorePlan, *, in_place: bool, yes: bool, overwrite: str | None) -> None:
    """Ask before files are replaced or removed; `UsageError` if the answer is no, or nobody can answer.

    Replacing needs no answer with `--overwrite`. Outside of a restore in place it is asked about on a
    terminal only; elsewhere there is only a warning, until 1.0.
    """
    from backup.cli.render.render import counted, shown_path

    confirmed = plan.confirmed
    if confirmed.extraneous:
        for path in confirmed.extraneous[:_SHOWN]:
            cli.say(f"would remove {shown_path(path)}")
        if len(confirmed.extraneous) > _SHOWN:
            cli.say(f"… and {len(confirmed.extraneous) - _SHOWN:,} more: --dry-run lists all")
    if yes:
        return
    there = counted(confirmed.replaced, "file")
    is_new = bool(confirmed.replaced) and not in_place and overwrite is None
    asks = is_new and cli.can_ask
    if is_new and not asks:
        cli.warn(f"replaces {there} that the target has: from 1.0 on this needs --overwrite always, or --yes")
    risks = [
        *([f"remove {counted(len(confirmed.extraneous), 'entry')}"] if confirmed.extraneous else []),
        *([f"replace {there}"] if confirmed.replaced and (in_place or asks) else []),
    ]
    if risks and not cli.confirm(f"{' and '.join(risks)}?"):
        raise UsageError("nothing was restored: you did not say yes")


def volume_as_target(
    cli: Cli, config: Config, target: str, path: bytes, job: str | None, *, yes: bool
) -> tuple[str, bytes]:
    """The directory of a target volume, and the path that is restored: its own if none was given.

    Asks where a running container uses it. `UsageError` without a yes.
    """
    from backup.app.backups.containers import target_volume
    from backup.containers.volumes import path_of

    name = target.removeprefix(VOLUME)
    place, users = target_volume(config, name, job)
    if users and not yes:
        named = ", ".join(container.name for container in users)
        cli.warn(f"volume {name} is used by what runs: {named}")
        if not cli.confirm("restore into it all the same?"):
            raise UsageError(f"nothing was restored: stop {named} first, or give --yes")
    return place, path_of(name) if path == b"/" else path


def refuse_volumes_in_place(tx: Transaction, snapshot: Snapshot, choice: Choice) -> None:
    """`UsageError` where a restore in place would write volumes of containers to where they never lay."""
    from backup.inventory.content.entries import entry_at
    from backup.source.roots import VOLUMES, is_at_or_below

    top = VOLUMES.rstrip(b"/")
    if choice.globs or any(pattern.startswith(os.fsdecode(top)) for pattern in choice.exclude):
        return
    is_meant = not choice.paths or any(is_at_or_below(path, top) for path in choice.paths)
    if is_meant and entry_at(tx, snapshot.job_number, top, snapshot.number) is not None:
        raise UsageError(
            "volumes of containers are not restored in place: where they lie is for their engine to say",
            advice=f"each by --target {VOLUME}NAME; the rest with --exclude {os.fsdecode(top)}",
        )


def confirm_way(cli: Cli, way: Way, *, yes: bool) -> None:
    """Warn of users who could replace the target directory, and ask. `UsageError` without a yes."""
    from backup.cli.render.render import shown_path

    if not way.risks:
        return
    shown = shown_path(os.fsencode(way.path))
    for risk in way.risks:
        why = shown_path(os.fsencode(risk.why))
        cli.warn(f"{why}: what is restored to {shown} can be taken away or swapped there")
    if not yes and not cli.confirm(f"restore to {shown} all the same?"):
        raise UsageError("nothing was restored: you did not say yes")
