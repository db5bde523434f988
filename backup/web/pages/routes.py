"""The routes of all pages."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

from backup.web.pages.actions import OPERATING
from backup.web.pages.archives import ARCHIVES
from backup.web.pages.browse import LOOKING
from backup.web.pages.history import HISTORY
from backup.web.pages.overview import OVERVIEW
from backup.web.pages.quoting import QUOTING
from backup.web.pages.schedule import SCHEDULE
from backup.web.pages.signing_in import SIGNING_IN
from backup.web.pages.static import STATIC

PAGES: Sequence[BaseRoute] = (
    *OVERVIEW,
    *HISTORY,
    *LOOKING,
    *QUOTING,
    *ARCHIVES,
    *SCHEDULE,
    *SIGNING_IN,
    *OPERATING,
    *STATIC,
)
