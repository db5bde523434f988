"""The pages as HTML: `PAGES` are the routes of all of them."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

from backup.web.pages.overview import OVERVIEW
from backup.web.pages.signing_in import SIGNING_IN

PAGES: Sequence[BaseRoute] = (*OVERVIEW, *SIGNING_IN)
