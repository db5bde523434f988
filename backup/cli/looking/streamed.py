"""Long lists, written row by row without holding them in memory: as lines, or as one JSON document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import click

from backup.cli.support.context import Cli


def show_each(cli: Cli, rows: Iterable[tuple[object, str]], *, title: str = "", nothing: str = "") -> int:
    """Write each row as a line, or with --json all documents as one array; returns the number of rows.

    `title` stands above the first line, `nothing` where there is none.
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
    """One JSON document: `head`, then the rows as an array called `name`, then what `tail` gives by then.

    Without a name the array is the document.
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
