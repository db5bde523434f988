"""The center's database for its commands: the option that names it, and how it is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from backup.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Engine

database = click.option(
    "--database",
    "url",
    metavar="URL",
    envvar="NIGHTVAULT_CENTER_DATABASE",
    show_envvar=True,
    default="postgresql:///nightvault",
    show_default=True,
    help="The center's PostgreSQL; its password, if any, is in ~/.pgpass.",
)


def trusted(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that name who is believed: `authorities` and `revocations`."""
    authority = click.option(
        "--authority",
        "authorities",
        multiple=True,
        required=True,
        metavar="FILE",
        help="Certificates of the authority of your servers (PEM); several times for several.",
    )
    crl = click.option(
        "--crl", "revocations", multiple=True, metavar="FILE", help="Its revoked certificates (PEM)."
    )
    return authority(crl(command))


@contextmanager
def opened_center(url: str, *, is_ready: bool = True) -> Iterator[Engine]:
    """The center's database, which is set up. `ConfigError`, `UnreachableError`, `UsageError`."""
    try:
        import psycopg  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        from backup.installed import how_to_add

        raise ConfigError(
            f"the center needs packages that are not installed: {error.name}", advice=how_to_add("center")
        ) from error
    from backup.center.database import opened_database, require_ready

    engine = opened_database(url)
    try:
        if is_ready:
            require_ready(engine)
        yield engine
    finally:
        engine.dispose()
