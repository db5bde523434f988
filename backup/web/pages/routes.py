"""The routes of all pages."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Route

from backup.web.pages.history import HISTORY, show_runs
from backup.web.pages.looking import LOOKING
from backup.web.pages.operating import OPERATING
from backup.web.pages.signing_in import SIGNING_IN
from backup.web.pages.static import STATIC

PAGES: Sequence[BaseRoute] = (Route("/", show_runs), *HISTORY, *LOOKING, *SIGNING_IN, *OPERATING, *STATIC)
