"""Record the month anew, from the root of a checkout: `python -m tests.month.record [STORY…] [--to FILE]`."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from tests.month.stories import RECORDED, STORIES, joined, sections
from tests.month.world import months
from tests.support import quick_clients, quick_inventories, quick_passwords, quick_settings, quick_syncs


def story(name: str) -> str:
    """The transcript of one story, lived now."""
    for quick in (quick_clients, quick_syncs, quick_inventories, quick_passwords, quick_settings):
        quick.quicken()
    began = time.monotonic()
    with pytest.MonkeyPatch.context() as set_, months(set_) as month:
        try:
            STORIES[name](month)
        except BaseException:
            print(*month.lines[-30:], sep="\n", file=sys.stderr)
            raise
        text = month.text()
    print(f"{name}: {time.monotonic() - began:.1f} s", file=sys.stderr)
    for seconds, words in sorted(month.spent, reverse=True)[:5]:
        print(f"  {seconds:.1f} s: {words}", file=sys.stderr)
    return text


def main() -> None:
    """Record the stories named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stories", nargs="*", metavar="STORY", help=", ".join(STORIES))
    parser.add_argument("--to", type=Path, default=RECORDED, metavar="FILE")
    asked = parser.parse_args()
    with ProcessPoolExecutor(2) as pool:
        names = asked.stories or list(STORIES)
        made = dict(zip(names, pool.map(story, names), strict=True))
    before = sections(asked.to.read_text()) if asked.to.exists() else {}
    asked.to.write_text(joined({**before, **made}))


if __name__ == "__main__":
    main()
