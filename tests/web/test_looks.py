"""Every page in a real browser: axe finds nothing serious, nothing scrolls sideways on a phone or zoomed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_selenium_python import Axe
from selenium.webdriver import Chrome

from tests.support.browsers import browser, needs_browser, set_screen
from tests.web.pictures import page_in
from tests.web.shown_pages import all_pages, html_of, strangers

pytestmark = [needs_browser, pytest.mark.slow]
RULES = ["wcag2a", "wcag2aa", "wcag21aa", "best-practice"]
# This axe is 3.1: its dlitem does not know that a <div> may group names and values.
# Later versions dropped the other two.
_RUN = """
const [tags, done] = arguments;
axe.run({runOnly: {type: "tag", values: tags}, preload: false, resultTypes: ["violations"],
         rules: {dlitem: {enabled: false}, radiogroup: {enabled: false}, checkboxgroup: {enabled: false}}})
  .then(done, (error) => done({error: String(error)}));
"""
_SMALL = """
const pressed = "button, input:not([type=hidden]), select, summary, .button, .nav a, .tabs a";
return [...document.querySelectorAll(pressed)]
  .map((one) => [one, (one.matches("[type=radio]") ? one.closest("label") : one).getBoundingClientRect()])
  .filter(([one, box]) => box.width && (box.width < 18 || box.height < 18))
  .map(([one, box]) => one.outerHTML.slice(0, 80) + " " + box.width + " x " + box.height);
"""
WITHOUT_SPACES = "a-name-without-any-place-to-break-a-line-" * 4


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One browser for all."""
    with browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


def serious(chromium: Chrome) -> list[str]:
    """What axe finds on the page that is shown."""
    Axe(chromium).inject()
    found: dict[str, Any] = chromium.execute_async_script(_RUN, RULES)
    assert "violations" in found, found
    return [
        f"{one['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for one in found["violations"]
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]


def pages(name: str = "www") -> Iterator[tuple[str, str]]:
    """The HTML of every page."""
    for key, shown in all_pages(name).items():
        yield key, html_of(shown, stale=key == "runs")
    for key, shown in strangers(name).items():
        yield key, html_of(shown, known=False)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(chromium: Chrome, tmp_path: Path, scheme: str) -> None:
    set_screen(chromium, 1200, 800, scheme=scheme)
    found = {}
    for key, html in pages():
        chromium.get(page_in(tmp_path, html))
        chromium.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true })")
        if faults := serious(chromium):
            found[key] = faults
    assert not found, "\n".join(f"{key}: {one}" for key, faults in found.items() for one in faults)


def test_nothing_scrolls_sideways(chromium: Chrome, tmp_path: Path) -> None:
    for key, html in pages(WITHOUT_SPACES):
        chromium.get(page_in(tmp_path, html))
        for width in (320, 640, 1000):  # a small phone; 1280 zoomed to 200 %; a window
            set_screen(chromium, width, 800)
            chromium.execute_script(
                "document.querySelectorAll('details').forEach(one => { one.open = true })"
            )
            wide = chromium.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, f"{key} is {wide} wide at {width}"


def test_what_is_pressed_is_large_enough(chromium: Chrome, tmp_path: Path) -> None:
    """WCAG 2.2, 2.5.8, which this axe does not know: 24 by 24 CSS pixels; links in text are exempt."""
    for key, html in pages():
        chromium.get(page_in(tmp_path, html))
        for width in (320, 1200):
            set_screen(chromium, width, 800)
            small = chromium.execute_script(_SMALL)
            assert not small, f"{key} at {width}: {small}"
