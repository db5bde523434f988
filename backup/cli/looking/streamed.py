"""Output of long lists row by row, so that they need little memory: as lines, or as one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import click

from backup.cli.support.context import Cli


def show_each(cli: Cli, rows: Iterable[tuple[object, str]], *, title: str = "", nothing: str = "") -> int:
    """Write each row as a line, or with --json all documents as one array; return the number of rows.

    `title` is written above the first line; `nothing` is written if there are no rows.
    """
    if cli.json:
        return show_object({}, "", (document for document, _ in rows))
    count = 0
    for _, line in rows:
        if title and not count:
            click.echo(title)
        click.echo(line)
        count += 1
    if nothing and not count:
        cli.say(nothing)
    return count


def show_object(
    head: Mapping[str, object],
    name: str,
    rows: Iterable[object],
    tail: Callable[[], Mapping[str, object]] = dict,
) -> int:
    """Write one JSON document: `head`, the rows as the array `name`, then the result of `tail`.

    `tail` is called after the last row. Without a name the document is the array alone.
    """
    from backup.cli.render.render import json_line

    count = 0
    opening = "".join(f"{json_line(key)}:{json_line(value)}," for key, value in head.items())
    click.echo(f"{{{opening}{json_line(name)}:[" if name else "[", nl=False)
    for row in rows:
        click.echo(("," if count else "") + json_line(row), nl=False)
        count += 1
    if name:
        closing = "".join(f",{json_line(key)}:{json_line(value)}" for key, value in tail().items())
        click.echo(f"]{closing}}}")
    else:
        click.echo("]")
    return count
