"""Static files (style, script, icon): read once, sent from memory; URLs contain the file's hash."""

from __future__ import annotations

import hashlib
import os
from functools import cache

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = os.path.join(os.path.dirname(os.path.dirname(__file__)), "static")
TYPES = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@cache
def contents(name: str) -> bytes:
    """Return the content of a file."""
    with open(os.path.join(FOLDER, name), "rb") as file:
        return file.read()


@cache
def address(name: str) -> str:
    """Return the URL of a file, which changes with its content."""
    return f"/static/{name}?v={hashlib.sha256(contents(name)).hexdigest()[:12]}"


async def show(request: Request) -> Response:
    """Answer with a static file."""
    name = str(request.path_params["name"])
    if name not in TYPES:
        raise HTTPException(404)
    return Response(contents(name), media_type=TYPES[name])


STATIC = (Route("/static/{name}", show, name="static"),)
