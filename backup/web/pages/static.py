"""Style, script and icon: read once, sent from memory; an address has the digest of its file."""

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
    """What a file holds."""
    with open(os.path.join(FOLDER, name), "rb") as file:
        return file.read()


@cache
def address(name: str) -> str:
    """Where a browser gets a file, by an address that changes with it."""
    return f"/static/{name}?v={hashlib.sha256(contents(name)).hexdigest()[:12]}"


async def show(request: Request) -> Response:
    """One of the files."""
    name = str(request.path_params["name"])
    if name not in TYPES:
        raise HTTPException(404)
    return Response(contents(name), media_type=TYPES[name])


STATIC = (Route("/static/{name}", show, name="static"),)
