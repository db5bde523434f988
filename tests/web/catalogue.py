"""The catalogue of the page's texts: `python -m tests.web.catalogue` writes it from templates and code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from jinja2.ext import extract_from_ast

from backup.web.pages.html import Renderer
from backup.web.texts import DOMAIN, LOCALE, Texts
from tests.support.emulated import REPOSITORY

WEB = REPOSITORY / "backup" / "web"
POT = Path(LOCALE) / f"{DOMAIN}.pot"
HEAD = (
    'msgid ""\nmsgstr ""\n"Project-Id-Version: nightvault\\n"\n"Content-Type: text/plain; charset=UTF-8\\n"\n'
    '"Plural-Forms: nplurals=2; plural=(n != 1);\\n"\n'
)
Text = str | tuple[str, ...]


def of_templates() -> Iterator[tuple[str, int, Text]]:
    """Texts of the templates: `_("…")` and `count_("…", "…", n)`."""
    made = Renderer(Texts("en")).environment
    for name in sorted(made.list_templates()):
        assert made.loader
        source, _file, _fresh = made.loader.get_source(made, name)
        for line, function, found in extract_from_ast(made.parse(source), ("_", "count_")):
            strings = [part for part in found if part is not None] if isinstance(found, tuple) else [found]
            assert strings, f"{name}:{line}: a text must be written where it is used"
            text = str(strings[0]), str(strings[-1])
            yield f"templates/{name}", line, text[0] if function == "_" else text


def of_code() -> Iterator[tuple[str, int, Text]]:
    """Texts of the code: `….say("…")` and `….count("…", "…", n)`."""
    for path in sorted(WEB.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            strings = [
                argument.value
                for argument in node.args
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
            ]
            where = str(path.relative_to(WEB))
            if node.func.attr == "say" and strings:
                yield where, node.lineno, strings[0]
            elif node.func.attr == "count" and len(strings) == 2:
                yield where, node.lineno, tuple(strings)


def written() -> str:
    """The whole catalogue, in the order of files."""
    places: dict[Text, list[str]] = {}
    for where, _line, text in [*of_templates(), *of_code()]:
        found = places.setdefault(text, [])
        if where not in found:
            found.append(where)
    entries = [f"#: {' '.join(found)}\n{_entry(text)}" for text, found in places.items()]
    return "\n".join([HEAD, *entries])


def _entry(text: Text) -> str:
    if isinstance(text, str):
        return f'msgid {_quoted(text)}\nmsgstr ""\n'
    return f'msgid {_quoted(text[0])}\nmsgid_plural {_quoted(text[1])}\nmsgstr[0] ""\nmsgstr[1] ""\n'


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


if __name__ == "__main__":
    POT.write_text(written())
