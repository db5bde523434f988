"""A page whose daemon remembers what it was asked."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.doubles import ManualClock
from tests.support.pages import Page, running_page
from tests.support.servers import Server
from tests.web.attacks.asking import Daemon


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def web_page(one_backup: Server, daemon: Daemon) -> Iterator[Page]:
    one_backup.clock = ManualClock(one_backup.clock.now())
    with running_page(one_backup, ask=daemon) as page:  # type: ignore[arg-type]
        yield page
