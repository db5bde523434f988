"""The values of the pages as JSON, under /api/v1: `API` are its routes."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute

API: Sequence[BaseRoute] = ()
