"""A night's story in a real browser: login, what failed, a huge folder, search, price, a restore.

The same with JavaScript off, and by keyboard alone.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from backup.inventory.rebuilt.bulk import insert_rows
from backup.inventory.store import schema
from backup.inventory.store.connections import Transaction
from backup.inventory.store.database import open_inventory
from backup.model import EntryKind
from tests.support.browsers import browser, needs_browser, set_screen
from tests.support.pages import NAME, PASSWORD, Page, running_page
from tests.support.servers import Server, directory_server

pytestmark = [needs_browser, pytest.mark.slow, pytest.mark.real]
MANY = 200_000


class Place(Struct, frozen=True):
    """A server whose last night failed, and its page."""

    server: Server
    page: Page


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """A backup, 200,000 more names in the inventory, and a night that failed."""
    server = directory_server(tmp_path_factory.mktemp("server"))
    server.init()
    (server.source / "plans").mkdir()
    (server.source / "plans" / "harbour.txt").write_text("a crane, two quays")
    server.backup()
    inventory = open_inventory(
        f"sqlite:///{server.state / 'inventory.sqlite'}", lock_directory=str(server.state)
    )
    with inventory.writing() as tx:
        add_many(tx, os.fsencode(server.source))
    inventory.close()
    away = server.source.rename(server.source.with_name("away"))
    server.run("backup", "main")
    away.rename(server.source)
    with running_page(server) as page:
        yield Place(server, page)


def add_many(tx: Transaction, source: bytes) -> None:
    """A folder `many` of 200,000 empty files, as rows."""
    ((above, job),) = tx.connection.execute("SELECT number, job FROM directories WHERE path = ?", (source,))
    (owner,) = tx.connection.execute("SELECT owner FROM entries LIMIT 1").fetchone()
    insert_rows(tx, schema.directories, [(900_000, job, source + b"/many")])
    rest = (0o644, owner, 10**18, 0, None, None, None, 1, None)
    directory = (900_000, above, b"many", int(EntryKind.DIRECTORY), *rest)
    files = ((1_000_000 + n, 900_000, b"file-%06d" % n, int(EntryKind.FILE), *rest) for n in range(MANY))
    insert_rows(tx, schema.entries, [directory, *files])


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory, place: Place) -> Iterator[Chrome]:
    """One browser with JavaScript, which may use the clipboard."""
    with browser(tmp_path_factory.mktemp("browser")) as made:
        rights = {"origin": place.page.url, "permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
        made.execute_cdp_cmd("Browser.grantPermissions", rights)
        yield made


def text(chromium: Chrome) -> str:
    """What is to be read on the page; nothing while it changes."""
    try:
        return chromium.find_element(By.TAG_NAME, "main").text
    except StaleElementReferenceException:
        return ""


def press(chromium: Chrome, words: str) -> None:
    """Press the link or button of these words, and wait for the next page."""
    old = chromium.find_element(By.TAG_NAME, "html")
    path = f"//*[self::a or self::button][normalize-space()={words!r}]"
    chromium.find_element(By.XPATH, path).click()
    WebDriverWait(chromium, 20).until(lambda _: gone(old))


def gone(element: object) -> bool:
    """Whether an element belongs to a page that was left."""
    try:
        getattr(element, "is_enabled")()  # noqa: B009
    except Exception:
        return True
    return False


def log_in(chromium: Chrome, page: Page) -> None:
    """By the form."""
    chromium.delete_all_cookies()
    chromium.get(page.url)
    chromium.find_element(By.ID, "name").send_keys(NAME)
    chromium.find_element(By.ID, "password").send_keys(PASSWORD)
    press(chromium, "Log in")


def look_around(chromium: Chrome) -> None:
    """From the overview to the failed night, and to the huge folder."""
    assert chromium.find_element(By.TAG_NAME, "h1").text == "Not all is well"
    assert "newest night of main went wrong" in text(chromium)
    press(chromium, "Runs")
    rows = [
        element for element in chromium.find_elements(By.CSS_SELECTOR, "tbody tr") if "failed" in element.text
    ]
    assert len(rows) == 1
    rows[0].find_element(By.TAG_NAME, "a").click()
    assert "source" in text(chromium)
    press(chromium, "Browse")
    press(chromium, "main")


def open_source(chromium: Chrome, source: Path) -> None:
    """Step by step into the source, by its links."""
    for step in source.parts[1:]:
        press(chromium, step)


def quote_by_search(chromium: Chrome) -> str:
    """Search a file, look at its versions and price; the command to restore it."""
    press(chromium, "Search")
    field = chromium.find_element(By.ID, "q")
    field.send_keys("harbour")
    field.submit()
    WebDriverWait(chromium, 20).until(lambda _: "plans/harbour.txt" in text(chromium))
    chromium.find_element(By.CSS_SELECTOR, "tbody th a").click()
    press(chromium, "Price and command")
    assert "Nothing has to be requested or paid" in text(chromium)
    return chromium.find_element(By.CSS_SELECTOR, "#command ~ .command code").text


def restored(place: Place, command: str, folder: Path) -> str:
    """What the command, run as it is, restores; the placeholders of target and key are filled."""
    words = shlex.split(command)
    assert words[:2] == ["nightvault", "restore"], command
    words = words[1:]
    for option, value in (("--target", folder / "back"), ("--key", place.server.key_file)):
        if option in words:
            words[words.index(option) + 1] = str(value)
        else:
            words += [option, str(value)]
    if "--wait" not in words:
        words.append("--wait")
    place.server.done(*words)
    found = list((folder / "back").rglob("harbour.txt"))
    assert len(found) == 1
    return found[0].read_text()


def test_from_login_to_a_command_that_restores(place: Place, chromium: Chrome, tmp_path: Path) -> None:
    set_screen(chromium, 1200, 900)
    log_in(chromium, place.page)
    look_around(chromium)
    open_source(chromium, place.server.source)
    fold = chromium.find_element(By.CSS_SELECTOR, "button[aria-label='Open many here']")
    fold.click()
    WebDriverWait(chromium, 20).until(lambda _: "file-000000" in text(chromium))
    fold.click()
    assert "file-000000" not in text(chromium)
    press(chromium, "many")
    assert "very many entries" in text(chromium)
    press(chromium, "More")
    assert "from file-" in text(chromium)
    command = quote_by_search(chromium)
    chromium.find_element(By.CSS_SELECTOR, "#command ~ .command button").click()
    assert copied(chromium) == command
    assert restored(place, command, tmp_path) == "a crane, two quays"
    log: list[dict[str, str]] = chromium.get_log("browser")  # type: ignore[no-untyped-call]
    assert not [entry for entry in log if "Content Security" in entry["message"]]


def test_all_of_it_without_javascript(
    place: Place, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with browser(tmp_path_factory.mktemp("b"), script=False) as chromium:
        log_in(chromium, place.page)
        assert not [
            element
            for element in chromium.find_elements(By.CSS_SELECTOR, "[data-copy]")
            if element.is_displayed()
        ]
        look_around(chromium)
        open_source(chromium, place.server.source)
        box = "input[aria-label='Choose plans']"
        chromium.find_element(By.CSS_SELECTOR, box).click()
        press(chromium, "What would restoring the chosen cost?")
        assert str(place.server.source / "plans") in text(chromium)
        command = quote_by_search(chromium)
    assert restored(place, command, tmp_path) == "a crane, two quays"


def keys(chromium: Chrome, *pressed: str) -> None:
    """Press keys, one after the other."""
    ActionChains(chromium).send_keys(*pressed).perform()


def arrives(chromium: Chrome, part: str) -> None:
    """Wait for a page whose address has that part."""
    WebDriverWait(chromium, 20).until(lambda _: part in chromium.current_url)
    WebDriverWait(chromium, 20).until(
        lambda _: chromium.execute_script("return document.readyState") == "complete"
    )


def tab_to(chromium: Chrome, words: str) -> None:
    """Press Tab until what has that text has the focus, which is seen."""
    for _ in range(60):
        keys(chromium, Keys.TAB)
        at = chromium.switch_to.active_element
        if words in (at.text, at.get_dom_attribute("id"), at.get_dom_attribute("aria-label")):
            assert at.value_of_css_property("outline-style") == "solid"
            return
    raise AssertionError(f"{words} is not reached")


def copied(chromium: Chrome) -> str:
    """What the clipboard holds."""
    text: str = chromium.execute_async_script(
        "const done = arguments[0]; navigator.clipboard.readText().then(done, (e) => done('error ' + e))"
    )
    return text


def log_in_by_keys(chromium: Chrome, page: Page) -> None:
    chromium.delete_all_cookies()
    chromium.get(page.url)
    keys(chromium, Keys.TAB, Keys.ENTER, Keys.TAB, NAME, Keys.TAB, PASSWORD, Keys.ENTER)
    WebDriverWait(chromium, 20).until(lambda _: "a good backup in time" in text(chromium))


def test_all_of_it_by_tab_and_enter_alone(place: Place, chromium: Chrome, tmp_path: Path) -> None:
    """No key of ours: what a keyboard or a switch does in every page."""
    set_screen(chromium, 1200, 900)
    log_in_by_keys(chromium, place.page)
    assert "Not all is well" in chromium.find_element(By.TAG_NAME, "h1").text
    tab_to(chromium, "Runs")
    keys(chromium, Keys.ENTER)
    arrives(chromium, "/runs")
    failed = next(
        element for element in chromium.find_elements(By.CSS_SELECTOR, "tbody tr") if "failed" in element.text
    )
    tab_to(chromium, failed.find_element(By.TAG_NAME, "a").text)
    keys(chromium, Keys.ENTER)
    arrives(chromium, "/runs/")
    assert "failed" in text(chromium)
    tab_to(chromium, "Search")
    keys(chromium, Keys.ENTER)
    arrives(chromium, "/search")
    tab_to(chromium, "q")
    keys(chromium, "harbour", Keys.ENTER)
    arrives(chromium, "q=harbour")
    tab_to(chromium, str(place.server.source / "plans" / "harbour.txt"))
    keys(chromium, Keys.ENTER)
    arrives(chromium, "/versions")
    tab_to(chromium, "Price and command")
    keys(chromium, Keys.ENTER)
    arrives(chromium, "/quote")
    tab_to(chromium, "Copy")
    keys(chromium, Keys.SPACE)
    command = copied(chromium)
    assert restored(place, command, tmp_path) == "a crane, two quays"


def test_the_keys_of_the_page(place: Place, chromium: Chrome) -> None:
    log_in_by_keys(chromium, place.page)
    keys(chromium, "g", "r")
    arrives(chromium, "/runs")
    for _ in range(5):
        keys(chromium, "j")
        if "failed" in chromium.find_element(By.CSS_SELECTOR, "tr.is-at").text:
            break
    keys(chromium, Keys.ENTER)
    arrives(chromium, "/runs/")
    assert "failed" in text(chromium)
    keys(chromium, "g", "b")
    arrives(chromium, "/browse")
    keys(chromium, "j", Keys.ENTER)
    arrives(chromium, "snapshot=")
    keys(chromium, "?")
    dialog = chromium.find_element(By.ID, "keys")
    assert dialog.is_displayed()
    keys(chromium, Keys.ESCAPE)
    assert not dialog.is_displayed()
    keys(chromium, "g", "s")
    arrives(chromium, "/search")
    keys(chromium, "/", "harbour", Keys.ENTER)
    arrives(chromium, "q=harbour")
    keys(chromium, "j", Keys.ENTER)
    arrives(chromium, "/versions")
    keys(chromium, "u")
    arrives(chromium, "/browse")
