"""What tests of the page share: an installation with one backup, and its page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.pages import Client, Page, running_page
from tests.support.servers import Server, directory_server


@pytest.fixture(scope="module")
def one_backup(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server whose job `main` was backed up once; for a whole module, so nothing may change it."""
    server = directory_server(tmp_path_factory.mktemp("server"))
    server.init()
    server.backup()
    return server


@pytest.fixture
def web_page(one_backup: Server, tmp_path: Path) -> Iterator[Page]:
    """Its page, without a daemon."""
    with running_page(one_backup) as page:
        yield page


@pytest.fixture
def client(web_page: Page) -> Client:
    """An operator who has just logged in."""
    return web_page.login()
