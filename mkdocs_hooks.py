"""What the site needs beyond docs/: pages from the top of the repository, and links to them."""

from __future__ import annotations

import html
import os
import re
from typing import Any

from mkdocs.structure.files import File, Files

TOP = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
EXAMPLE = "config.example.toml"
DECISIONS = "Decisions"


def on_config(config: Any) -> Any:
    """Put every decision into the navigation, where `Decisions` stands."""
    found = sorted(name for name in os.listdir("docs/adr") if name[0].isdigit())
    for tab in config.nav:
        for items in tab.values():
            for item in items if isinstance(items, list) else ():
                if isinstance(item, dict) and DECISIONS in item:
                    item[DECISIONS] = [f"adr/{name}" for name in found]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages; the example of a config becomes one, too."""
    for name in TOP:
        files.append(File.generated(config, name, abs_src_path=os.path.abspath(name)))
    with open(EXAMPLE, encoding="utf-8") as file:
        text = f"# {EXAMPLE}\n\n```toml\n{file.read()}```\n"
    files.append(File.generated(config, "config.example.md", content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:  # noqa: ARG001  mkdocs passes all
    """Links as the site has them; what lies in the repository alone is named without a link."""
    folder = os.path.dirname(page.file.src_uri) if page.file.src_uri not in TOP else ".."
    lines = (_row(line) if line.startswith("|") else line for line in markdown.split("\n"))
    markdown = "\n".join(lines)
    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", lambda found: _link(found, folder), markdown)


def _row(line: str) -> str:
    """A row of a table: `a\\|b` is code with a bar in it; the site's Markdown would show the backslash."""
    return re.sub(r"`([^`]*\\\|[^`]*)`", lambda found: f"<code>{_bars(found[1])}</code>", line)


def _bars(code: str) -> str:
    return html.escape(code.replace("\\|", "\0")).replace("\0", "&#124;")


def _title(path: str) -> str:
    """The first heading of a page."""
    with open(path, encoding="utf-8") as file:
        return next(line[2:].strip() for line in file if line.startswith("# ")).replace("`", "")


def _link(found: re.Match[str], folder: str) -> str:
    image, text, target = found.groups()
    if image and target.endswith("-light.svg"):
        dark = target.replace("-light.svg", "-dark.svg")
        return f"![{text}]({target}#only-light)\n![{text}]({dark}#only-dark)"
    path, hash_, anchor = target.partition("#")
    if "://" in target or not path:
        return found[0]
    place = os.path.normpath(os.path.join("docs", folder, path))  # from the top of the repository
    if not image and re.fullmatch(r"[\w-]+\.md", text) and os.path.isfile(place):
        text = _title(place)
    if place.startswith("docs/"):
        inside = place.removeprefix("docs/")
    elif place in TOP:
        inside = place
    elif place == EXAMPLE:
        inside = "config.example.md"
    elif place == "README.md":
        inside = "index.md"
    else:
        return text
    return f"{image}[{text}]({os.path.relpath(inside, folder if folder != '..' else '.')}{hash_}{anchor})"
