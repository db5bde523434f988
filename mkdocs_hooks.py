"""What the site needs beyond docs/: pages from the top of the repository, and links to them."""

from __future__ import annotations

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
    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", lambda found: _link(found, folder), markdown)


def _link(found: re.Match[str], folder: str) -> str:
    image, text, target = found.groups()
    if image and target.endswith("-light.svg"):
        dark = target.replace("-light.svg", "-dark.svg")
        return f"![{text}]({target}#only-light)\n![{text}]({dark}#only-dark)"
    path, hash_, anchor = target.partition("#")
    if "://" in target or not path:
        return found[0]
    place = os.path.normpath(os.path.join("docs", folder, path))  # from the top of the repository
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
