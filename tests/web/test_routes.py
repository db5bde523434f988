"""The pages of a real installation over HTTP: each answers, and says plainly what is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import quote_from_bytes

import pytest

from backup.app.status.parts import Topic
from tests.support.emulated import REPOSITORY
from tests.support.pages import Client, Page, running_page
from tests.support.servers import Server, directory_server
from tests.web.markup import Document, read

HOSTILE = b"\xff<b>&\"'\xe2\x80\xaegnp\n%41+ .txt"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server with three nights, one of which failed; a name in it is hostile."""
    server = directory_server(tmp_path_factory.mktemp("server"))
    server.init()
    (server.source / "docs").mkdir()
    (server.source / "docs" / "plan.txt").write_text("one")
    with open(bytes(server.source / "docs") + b"/" + HOSTILE, "wb"):
        pass
    server.backup()
    (server.source / "docs" / "plan.txt").write_text("two, longer")
    server.backup()
    return server


@pytest.fixture(scope="module")
def served(server: Server) -> Iterator[Page]:
    """A page over them."""
    with running_page(server) as page:
        yield page


@pytest.fixture(scope="module")
def ada(served: Page) -> Client:
    """An operator who is logged in."""
    return served.login()


def page_of(client: Client, path: str, status: int = 200) -> Document:
    """A page, read strictly."""
    answer = client.get(path)
    assert answer.status == status, answer.text
    return read(answer.text)


def links(document: Document, begin: str) -> list[str]:
    """The addresses of links that begin so, in order."""
    found = [element.attributes.get("href") or "" for element in document.all("a")]
    return [link for link in found if link.startswith(begin)]


def test_every_page_of_the_navigation_answers(ada: Client) -> None:
    where = dict.fromkeys(links(page_of(ada, "/"), "/"))
    assert {"/archives", "/schedule", "/runs", "/nights", "/browse", "/search"} <= where.keys()
    for where_to in dict.fromkeys(address.partition("#")[0] for address in where):
        assert page_of(ada, where_to).all("h1")


def test_a_price_and_a_command_for_what_is_chosen(ada: Client) -> None:
    folder = page_of(ada, links(page_of(ada, "/browse"), "/browse?")[0])
    quote = page_of(ada, links(folder, "/quote?")[0])
    assert any(element.text.startswith("nightvault restore ") for element in quote.all("code"))
    snapshot = links(page_of(ada, "/browse"), "/browse?")[0].replace("/browse", "/quote")
    missing = page_of(ada, f"{snapshot}&path={quote_from_bytes(b'/none')}&pick=%252Fnor%2525this")
    assert "The snapshot does not have" in missing.with_id("main").text


def test_browsing_begins_where_the_sources_are(server: Server, ada: Client) -> None:
    """And leads up to the root from there."""
    first = links(page_of(ada, "/browse"), "/browse?")[0]
    folder = page_of(ada, first)
    assert folder.all("h1")[0].text == str(server.source)
    root = page_of(ada, f"{first}&path=/")
    assert root.all("h1")[0].text == "/"


def test_forgotten_snapshots_are_behind_a_switch(server: Server, ada: Client) -> None:
    shown = links(page_of(ada, "/nights?job=main"), "/browse?")
    with_forgotten = page_of(ada, "/nights?job=main&forgotten=1")
    assert links(with_forgotten, "/browse?") == shown, "none is forgotten yet"
    oldest = shown[-1].partition("snapshot=")[2]
    server.done("forget", oldest)
    hidden = page_of(ada, "/nights?job=main")
    assert links(hidden, "/browse?") == shown[:-1]
    (switch,) = [link for link in links(hidden, "/nights?") if "forgotten" in link]
    assert links(page_of(ada, switch), "/browse?") == shown
    server.done("forget", "--undo", oldest)


def test_each_concern_leads_to_what_it_means(ada: Client) -> None:
    explained = page_of(ada, "/help")
    for topic in Topic:
        assert explained.with_id(topic).text.strip()
    pages = {code.text.partition("#")[0] for code in explained.all("code")}
    assert all((REPOSITORY / page).is_file() for page in pages)
    overview = links(page_of(ada, "/"), "/help#")
    assert overview
    assert {link.partition("#")[2] for link in overview} <= set(Topic)


def test_a_viewer_is_offered_nothing_to_start(served: Page) -> None:
    viewer = served.login("vi")
    offered = page_of(viewer, "/schedule").all("form")
    assert {element.attributes.get("action") for element in offered if "method" in element.attributes} <= {
        "/logout",
        None,
    }


def test_from_a_night_to_what_it_changed_and_back_to_a_version(ada: Client) -> None:
    nights = page_of(ada, "/nights?job=main")
    newest = links(nights, "/browse?")[0]
    changes = page_of(ada, newest.replace("/browse?snapshot=", "/changes?newer="))
    assert "changed" in changes.with_id("main").text
    version = next(link for link in links(changes, "/versions?") if link.endswith("plan.txt"))
    versions = page_of(ada, version)
    assert len(versions.all("tbody")[0].text.split("2026-")) > 2
    assert "11 B" in versions.with_id("main").text


def test_a_name_that_is_no_text_can_be_followed_everywhere(ada: Client) -> None:
    root = links(page_of(ada, "/browse"), "/browse?")[0]
    shown = page_of(ada, root)
    while not any("docs" in link for link in links(shown, "/browse?")):
        shown = page_of(ada, links(shown, "/browse?")[-1])
    docs = next(link for link in links(shown, "/browse?") if "docs" in link)
    folder = page_of(ada, docs)
    assert "\\xff<b>&\"'\\u202egnp\\x0a%41+ .txt" in folder.with_id("main").text
    where = next(link for link in links(folder, "/versions?") if "%FF" in link)
    assert "\\xff<b>" in page_of(ada, where).all("h1")[0].text
    picks = [
        element.attributes["value"] or ""
        for element in folder.all("input")
        if element.attributes.get("name") == "pick"
    ]
    assert any("%FF" in link for link in picks)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nowhere", 404),
        ("/runs/999", 404),
        (f"/runs/{'9' * 5000}", 400),
        ("/runs/x", 400),
        ("/runs?job=nobody", 404),
        ("/runs?before=x", 400),
        ("/runs?kind=walk", 400),
        ("/browse?snapshot=00000000", 404),
        ("/browse?snapshot=%ff", 400),
        ("/browse?snapshot=latest&path=%00", 400),
        ("/versions?job=main&path=relative", 400),
        ("/changes?newer=", 400),
        ("/search?q=x&after=garbage", 400),
        ("/static/../page.css", 404),
        ("/static/nothing.css", 404),
    ],
)
def test_what_is_not_there_is_said_so_on_a_page_with_a_way_back(ada: Client, path: str, status: int) -> None:
    document = page_of(ada, path, status)
    assert "/" in links(document, "/")
    assert document.all("h1")[0].text.strip()


def test_style_and_script_come_with_their_types(ada: Client) -> None:
    page = ada.get("/runs").text
    for pattern, kind in (
        (r"/static/page\.css\?v=\w+", "text/css"),
        (r"/static/page\.js\?v=\w+", "text/javascript"),
    ):
        found = re.search(pattern, page)
        assert found
        assert ada.get(found[0]).headers["content-type"].startswith(kind)


def test_without_a_daemon_the_pages_say_that_they_are_stale(ada: Client) -> None:
    text = page_of(ada, "/runs").elements[0].text
    assert "The daemon does not answer" in text
