"""The content of a message, as values, and as JSON, text and HTML; pure.

Everything in a letter may come from names of files or answers of servers: text has escapes for what could
hide or reorder it, and HTML is escaped on top of that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape as escaped_html
from typing import Any

from msgspec import Struct, field

from backup.wording import escape

MOST_PROBLEMS = 20
"""So many problems of a run are in a message; the rest is counted."""
_WIDTH = 9  # of labels in the text
_LONGEST_LINE = 2000


class Letter(Struct, frozen=True):
    """A message: one line of title, facts with their labels, problems, remarks, and what to do.

    `more_problems` is the number of those not listed; `command` shows more, or is what to do.
    """

    title: str
    host: str
    facts: Sequence[tuple[str, str]] = ()
    problems: Sequence[str] = ()
    more_problems: int = 0
    remarks: Sequence[str] = ()
    advice: str = ""
    command: str = ""
    report: Mapping[str, Any] = field(default_factory=dict)  # the run's, as `runs --json` has it

    def document(self) -> dict[str, Any]:
        """As JSON; the keys are part of the interface."""
        return {
            "title": self.title,
            "host": self.host,
            "facts": [list(pair) for pair in self.facts],
            "problems": list(self.problems),
            "more_problems": self.more_problems,
            "remarks": list(self.remarks),
            "advice": self.advice,
            "command": self.command,
            "report": dict(self.report),
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Letter:
        """The letter that a `document` was made of."""
        return cls(
            title=document["title"],
            host=document["host"],
            facts=[(label, value) for label, value in document["facts"]],
            problems=document["problems"],
            more_problems=document["more_problems"],
            remarks=document["remarks"],
            advice=document["advice"],
            command=document["command"],
            report=document["report"],
        )


def as_text(letter: Letter) -> str:
    """The letter as plain text, without its title."""
    blocks = [
        [f"{_line(label):<{_WIDTH}} {_line(value)}" for label, value in letter.facts],
        [_line(problem) for problem in _problems(letter)],
        [_line(remark) for remark in letter.remarks],
        [f"What to do: {_line(letter.advice)}"] if letter.advice else [],
        [f"Look: {_line(letter.command)}"] if letter.command else [],
        [f"-- nightvault on {_line(letter.host)}"],
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


def _problems(letter: Letter) -> list[str]:
    more = [f"… and {letter.more_problems} more"] if letter.more_problems else []
    return [*letter.problems, *more]


def _line(text: str) -> str:
    return escape(text.replace("\n", " "))[:_LONGEST_LINE]


_STYLE = """
:root { color-scheme: light dark; supported-color-schemes: light dark; }
body { margin: 0; padding: 16px; font: 15px/1.5 sans-serif; color: #1b1f24; background: #ffffff; }
h1 { font-size: 19px; line-height: 1.3; margin: 0 0 12px; padding-left: 10px; border-left: 5px solid MARK; }
td { padding: 2px 14px 2px 0; vertical-align: top; overflow-wrap: anywhere; }
td.label, .small { color: #57606a; }
td.label { white-space: nowrap; }
code { font: 14px/1.4 monospace; overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) {
  body { color: #e6edf3; background: #0d1117; }
  td.label, .small { color: #9da7b3; }
}"""
_MARKS = {"failed": "#cf222e", "overdue": "#cf222e", "warning": "#bf8700", "recovered": "#1a7f37"}


def as_html(letter: Letter, kind: str) -> str:
    """The letter as a page for mail; nothing is loaded from anywhere, and it reads well in dark, too."""
    rows = "".join(
        f'<tr><td class="label">{_html(label)}</td><td>{_html(value)}</td></tr>\n'
        for label, value in letter.facts
    )
    parts = [
        f"<h1>{_html(letter.title)}</h1>",
        f'<table role="presentation">\n{rows}</table>' if rows else "",
        _list(_problems(letter)),
        *(f"<p>{_html(remark)}</p>" for remark in letter.remarks),
        f"<p>What to do: {_html(letter.advice)}</p>" if letter.advice else "",
        f"<p>Look: <code>{_html(letter.command)}</code></p>" if letter.command else "",
        f'<p class="small">nightvault on {_html(letter.host)}</p>',
    ]
    style = _STYLE.replace("MARK", _MARKS.get(kind, "#57606a"))
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{_html(letter.title)}</title>\n<style>{style}\n</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _list(lines: Sequence[str]) -> str:
    items = "".join(f"<li><code>{_html(line)}</code></li>\n" for line in lines)
    return f"<ul>\n{items}</ul>" if items else ""


def _html(text: str) -> str:
    return escaped_html(_line(text))
