"""The values of the pages as JSON, under /api/v1: `API` are its routes.

One generic encoder (`encoding.py`) makes JSON of the frozen values, and `openapi.py` makes the OpenAPI
document of their types, so that neither can tell of anything that the other does not.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

from backup.web.api.routes import ROUTES

API: Sequence[BaseRoute] = ROUTES
