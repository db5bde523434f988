"""Pictures of every page, light and dark and on a phone: `python -m tests.web.pictures FOLDER [NAME …]`.

`python -m tests.web.pictures docs` writes those of README and docs/web.md instead. They are of the
believable values of `believable.py`, so they are the same each time.
"""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

from selenium.webdriver import Chrome

from backup.web.pages.static import FOLDER, TYPES, address
from tests.support.browsers import browser, set_screen
from tests.support.emulated import REPOSITORY
from tests.web.shown_pages import all_pages, html_of, strangers

LOOKS = {
    "light": (1280, "light"),
    "dark": (1280, "dark"),
    "phone": (390, "light"),
    "phone-dark": (390, "dark"),
}
_HIGHEST = 4_000
README = {"overview-bad": "light", "browse": "dark", "quote": "light"}
PAGE = {"archives": "light", "run-failed": "light", "changes": "light", "schedule": "dark"}


def main(folder: str, *names: str) -> None:
    """Write them all, or those of some pages."""
    os_folder = Path(folder)
    os_folder.mkdir(parents=True, exist_ok=True)
    pages = {**all_pages(), **strangers()}
    with tempfile.TemporaryDirectory() as work, browser(Path(work)) as chromium:
        for name in names or pages:
            html = html_of(pages[name], stale=name == "problem", known=name not in strangers())
            for look, (width, scheme) in LOOKS.items():
                set_screen(chromium, width, 800, scheme=scheme)
                show(chromium, page_in(Path(work), html))
                take(chromium, os_folder / f"{name}-{look}.png", width, scheme)


def for_docs() -> None:
    """The pictures of README and of docs/web.md, as WebP."""
    with tempfile.TemporaryDirectory() as work, browser(Path(work)) as chromium:
        for name, scheme in {**README, **PAGE}.items():
            set_screen(chromium, 1100, 800, scheme=scheme)
            show(chromium, page_in(Path(work), html_of(all_pages()[name])))
            height = int(chromium.execute_script("return document.documentElement.scrollHeight"))
            set_screen(chromium, 1100, min(1300, height), scheme=scheme)
            taken = chromium.execute_cdp_cmd("Page.captureScreenshot", {"format": "webp", "quality": 72})
            target = REPOSITORY / "docs" / "pictures" / f"page-{name.partition('-')[0]}.webp"
            target.write_bytes(base64.b64decode(taken["data"]))
        phone(chromium, Path(work))


def phone(chromium: Chrome, work: Path) -> None:
    """The overview on a phone, on a good day."""
    set_screen(chromium, 360, 780)
    show(chromium, page_in(work, html_of(all_pages()["overview"])))
    taken = chromium.execute_cdp_cmd("Page.captureScreenshot", {"format": "webp", "quality": 72})
    (REPOSITORY / "docs" / "pictures" / "page-phone.webp").write_bytes(base64.b64decode(taken["data"]))


def show(chromium: Chrome, address: str) -> None:
    """Show a page as one that its server keeps up to date, which a file is not."""
    chromium.get(address)
    chromium.execute_script("document.querySelector('[data-ended]')?.remove()")


def page_in(work: Path, html: str) -> str:
    """A page as a file whose style and script are files, too; its address."""
    for name in TYPES:
        html = html.replace(address(name).replace("&", "&amp;"), f"file://{FOLDER}/{name}")
    (work / "page.html").write_text(html)
    return f"file://{work}/page.html"


def take(chromium: Chrome, target: Path, width: int, scheme: str) -> None:
    """The whole of the page as a picture."""
    height = int(chromium.execute_script("return document.documentElement.scrollHeight"))
    set_screen(chromium, width, min(_HIGHEST, max(height, 500)), scheme=scheme)
    chromium.save_screenshot(str(target))
    wide = int(chromium.execute_script("return document.documentElement.scrollWidth"))
    print(f"{target.name}: {wide} x {height}")


if __name__ == "__main__":
    for_docs() if sys.argv[1:] == ["docs"] else main(*sys.argv[1:])
