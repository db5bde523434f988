"""Files that were installed with the program and that messages name; how to add a library.

A wheel and a package have them in PREFIX/share/nightvault; in a checkout they lie where they were written.
"""

from __future__ import annotations

import os
import re
import sys
from functools import cache

from backup import __version__

_SYSTEM = "/usr/share/nightvault"
_CHECKOUT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_NAMED = re.compile(
    r"(?<![\w/.-])(?:docs/[a-z-]+\.md|config\.example\.toml|deploy/(?=hooks|iam|monitoring|nightvault-extract))"
)


def shared(name: str) -> str | None:
    """The path of an installed file such as "docs/aws.md", or of the checkout; None if there is none."""
    path = os.path.join(share() or _CHECKOUT, name)
    return path if os.path.exists(path) else None


@cache
def share() -> str | None:
    """The folder of the files that were installed, by its shortest name; None in a checkout."""
    folder = os.path.join(sys.prefix, "share", "nightvault")
    if os.path.isdir(os.path.join(_CHECKOUT, "deploy")) or not os.path.isdir(folder):
        return None
    return _SYSTEM if os.path.realpath(_SYSTEM) == os.path.realpath(folder) else folder


def with_places(text: str) -> str:
    """The text with "docs/aws.md" and the like replaced by paths that exist here; unchanged in a checkout."""
    folder = share()
    if folder is None:
        return text

    def place(match: re.Match[str]) -> str:
        name = match[0].removeprefix("deploy/")
        return os.path.join(folder, name) if os.path.exists(os.path.join(folder, name)) else match[0]

    return _NAMED.sub(place, text)


def how_to_add(extra: str) -> str:
    """The command that adds an extra's libraries to this installation, for the wheel it was made from."""
    pip = os.path.join(sys.prefix, "bin", "pip")
    if not os.path.exists(pip):
        return f"install nightvault from its wheel, with the extra {extra} (docs/install.md)"
    return f"{pip} install './nightvault-{__version__}-py3-none-any.whl[{extra}]' (docs/install.md)"
