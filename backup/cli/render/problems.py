"""Problems as JSON and as text; the text groups them by cause."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from backup.model import Problem

_EXAMPLES = 3


def problem_document(problem: Problem) -> dict[str, Any]:
    """Return a problem as a JSON document."""
    from backup.cli.render.render import path_document

    return {**path_document(problem.path), "kind": str(problem.kind), "detail": problem.detail}


def problem_lines(problems: Iterable[Problem], *, most: int = 20) -> list[str]:
    """Return at most `most` lines about problems, and a last line that counts the rest.

    A cause with few entries has a line for each; one with many entries has one line with the first of them.
    """
    from backup.cli.render.render import shown_path

    causes: dict[tuple[str, str], list[bytes]] = {}
    for problem in problems:
        causes.setdefault((str(problem.kind), problem.detail), []).append(problem.path)
    lines: list[str] = []
    untold = 0
    for (kind, detail), paths in causes.items():
        if len(paths) > _EXAMPLES:
            first = ", ".join(shown_path(path) for path in paths[:_EXAMPLES])
            rest = len(paths) - _EXAMPLES
            new = [f"{kind}: {detail}: {len(paths):,} entries: {first} and {rest:,} more"]
        else:
            new = [f"{kind}: {shown_path(path)}: {detail}" for path in paths]
        kept = new[: most - len(lines)]
        lines += kept
        untold += len(paths) if not kept else len(new) - len(kept)
    return [*lines, f"… and {untold:,} more; --json has them all"] if untold else lines
