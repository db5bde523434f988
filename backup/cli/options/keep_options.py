"""The options `--keep-last 7`, `--keep-within 30d` and so on: a policy for this one command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from backup.errors import UsageError

if TYPE_CHECKING:
    from backup.retention.policy import Policy

_PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")
_COUNTS = {
    "last": "The newest N snapshots.",
    **{name: f"The newest of each of the last N periods that have one, {name}." for name in _PERIODS},
}
_SPANS = {
    "within": "All within this time before the newest, as 30d, 13w, 1y6m.",
    **{f"within-{name}": f"The newest of each period within this time, {name}." for name in _PERIODS},
}


def keep_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command; its parameters are called `keep_…`, None or () if not given."""
    tags = click.option(
        "--keep-tag", "keep_tags", metavar="TAG[,TAG]", multiple=True, help="Those with these tags."
    )
    command = tags(command)
    for name, text in reversed(_SPANS.items()):
        command = click.option(f"--keep-{name}", metavar="TIME", help=text)(command)
    for name, text in reversed(_COUNTS.items()):
        command = click.option(f"--keep-{name}", metavar="N|all", help=text)(command)
    return command


def policy_of(options: Mapping[str, Any]) -> Policy | None:
    """Return the policy that the options describe; None if none was given. `UsageError`."""
    from backup.config import RetentionSettings
    from backup.config.retention import check_count, check_span

    given = {name: value for name, value in options.items() if value is not None and value != ()}
    if not given:
        return None
    read: dict[str, Any] = {}
    for name, value in given.items():
        if name == "keep_tags":
            read[name] = tuple(",".join(tags_of("--keep-tag", tags)) for tags in value)
            continue
        is_span, words = name.startswith("keep_within"), value.strip()
        try:
            known = check_span(words) if is_span else check_count(int(words) if words.isdecimal() else words)
        except ValueError as error:
            raise UsageError(f"--{name.replace('_', '-')} {words!r}: {error}") from error
        read[name] = known
    policy = RetentionSettings(**read).policy
    if policy.is_empty:
        raise UsageError("these options keep nothing", advice="set one of --keep-last, --keep-within …")
    return policy


def tags_of(option: str, words: str) -> list[str]:
    """Return the tags in a text such as `a,b`. `UsageError` for an invalid tag."""
    from backup.format.marks import tag_fault

    tags = [tag.strip() for tag in words.split(",")]
    for tag in tags:
        if fault := tag_fault(tag):
            raise UsageError(f"{option} {words!r}: {tag!r} is no tag: {fault}")
    return tags
