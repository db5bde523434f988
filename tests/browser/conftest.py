"""What tests of the tree share: an installation that is looked into."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.backups import Site
from tests.support.trees_of_files import LookedInto


@pytest.fixture
def found(site: Site) -> Iterator[LookedInto]:
    """The tree of the site, which may have no snapshot yet."""
    opened = LookedInto(site)
    yield opened
    opened.close()
