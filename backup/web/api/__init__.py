"""The API: the values of the pages as JSON, under /api/v1; `API` has its routes.

A generic encoder (`encoding.py`) makes JSON from the frozen values, and `openapi.py` makes the OpenAPI
document from their types, so that both always agree.
"""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

from backup.web.api.routes import ROUTES

API: Sequence[BaseRoute] = ROUTES
