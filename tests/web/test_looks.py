"""Every page in a real browser: axe finds nothing serious, nothing scrolls sideways on a phone or zoomed, and
what has the focus is seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys

from tests.support.browsers import browser, found_by_axe, needs_browser, serious, set_screen
from tests.web.pictures import page_in
from tests.web.shown_pages import all_pages, html_of, strangers

pytestmark = [needs_browser, pytest.mark.slow, pytest.mark.real]
COLOURS = ["color-contrast", "link-in-text-block"]  # what differs between light and dark
PLACES = ["target-size", "scrollable-region-focusable", "label-content-name-mismatch"]  # between widths
WITHOUT_SPACES = "a-name-without-any-place-to-break-a-line-" * 4
# WCAG 2.2, 2.4.7 and 2.4.11: whatever the keyboard reaches has an outline, and nothing lies above all of it.
_FOCUS = """
const reached = "a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']";
const faults = [];
let walked = 0;
for (const one of document.querySelectorAll(reached)) {
  if (!one.checkVisibility({visibilityProperty: true}) || one.disabled) continue;
  one.focus();
  if (document.activeElement !== one) faults.push("takes no focus: " + one.outerHTML.slice(0, 90));
  walked += 1;
  one.scrollIntoView({block: "nearest", inline: "nearest", behavior: "instant"});
  const style = getComputedStyle(one);
  if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2) {
    faults.push("no outline: " + one.outerHTML.slice(0, 90));
  }
  const box = one.getBoundingClientRect();
  const seen = [[.5, .5], [.1, .5], [.9, .5], [.5, .1], [.5, .9]].some(([x, y]) => {
    const at = document.elementFromPoint(box.left + x * box.width, box.top + y * box.height);
    return at && (one.contains(at) || at.contains(one));
  });
  if (!seen) faults.push("hidden: " + one.outerHTML.slice(0, 90));
}
return [walked, faults];
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One browser for all."""
    with browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


def pages(name: str = "www") -> Iterator[tuple[str, str]]:
    """The HTML of every page."""
    for key, shown in all_pages(name).items():
        yield key, html_of(shown, stale=key == "runs")
    for key, shown in strangers(name).items():
        yield key, html_of(shown, known=False)


def shown(chromium: Chrome, folder: Path, html: str) -> None:
    """Open a page, and all that folds on it."""
    chromium.get(page_in(folder, html))
    chromium.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true })")


def test_axe_finds_nothing_serious(chromium: Chrome, tmp_path: Path) -> None:
    found: list[str] = []
    for key, html in pages():
        set_screen(chromium, 1200, 800)
        shown(chromium, tmp_path, html)
        found += [f"{key}: {violation}" for violation in serious(chromium)]
        set_screen(chromium, 1200, 800, scheme="dark")
        found += [f"{key}, dark: {colour}" for colour in serious(chromium, COLOURS)]
        set_screen(chromium, 320, 800)
        found += [f"{key}, narrow: {place}" for place in serious(chromium, PLACES)]
    assert not found, "\n".join(found)


def test_axe_tries_all_its_rules(chromium: Chrome, tmp_path: Path) -> None:
    shown(chromium, tmp_path, dict(pages())["overview"])
    rules = found_by_axe(chromium)["rules"]
    assert {"target-size", "color-contrast", "dlitem", "label-content-name-mismatch"} <= set(rules)
    assert len(rules) > 90


def test_axe_would_find_something(chromium: Chrome, tmp_path: Path) -> None:
    html = dict(pages())["quote"].replace("</main>", "<img src='x'><a href='/'></a></main>")
    shown(chromium, tmp_path, html)
    assert {violation.partition(":")[0] for violation in serious(chromium)} >= {"image-alt", "link-name"}


def test_what_has_the_focus_is_seen(chromium: Chrome, tmp_path: Path) -> None:
    for key, html in pages():
        for width in (320, 1200):
            set_screen(chromium, width, 700)
            shown(chromium, tmp_path, html)
            ActionChains(chromium).send_keys(Keys.TAB).perform()  # from now on the focus is the keyboard's
            walked, faults = chromium.execute_script(_FOCUS)
            assert walked >= (3 if key in strangers() else 10), key
            assert not faults, f"{key} at {width}: " + "\n".join(faults)


def test_nothing_scrolls_sideways(chromium: Chrome, tmp_path: Path) -> None:
    for key, html in pages(WITHOUT_SPACES):
        shown(chromium, tmp_path, html)
        for width in (320, 640, 1000):  # a small phone; 1280 zoomed to 200 %; a window
            set_screen(chromium, width, 800)
            wide = chromium.execute_script("return document.documentElement.scrollWidth")
            assert wide <= width, f"{key} is {wide} wide at {width}"


@pytest.mark.parametrize(("page", "rows"), [("runs", 13), ("nights", 14)])
def test_a_phone_begins_with_ten_rows(chromium: Chrome, tmp_path: Path, page: str, rows: int) -> None:
    def seen() -> int:
        shown = "[...document.querySelectorAll('tbody tr')].filter(row => row.checkVisibility())"
        return int(chromium.execute_script(f"return {shown}.length"))

    shown(chromium, tmp_path, html_of(all_pages()[page]))
    for width, count in ((1280, rows), (390, 10)):
        set_screen(chromium, width, 800)
        assert seen() == count
    chromium.execute_script("document.querySelector('.rest input').click()")
    assert seen() == rows


def test_no_line_of_a_command_ends_within_an_option(chromium: Chrome, tmp_path: Path) -> None:
    """`--` at the end of a line, and the option's name on the next, is no command any more."""
    shown(chromium, tmp_path, html_of(all_pages()["quote"]))
    for width in (390, 1280):
        set_screen(chromium, width, 800)
        heights = chromium.execute_script(
            "return [...document.querySelectorAll('.command code span')]"
            ".filter(word => word.textContent.startsWith('--')).map(word => word.offsetHeight)"
        )
        assert heights
        assert max(heights) < 30, "in pixels: more than one line"
    commands = chromium.execute_script(
        "return [...document.querySelectorAll('.command code')].map(code => code.textContent)"
    )
    *restores, files = commands
    assert restores
    assert all(" --target " in command for command in restores)
    assert files.startswith("nightvault serve-files --snapshot ")
