"""Clients of AWS that share what botocore reads: its descriptions of the services, parsed once a process.

Each session would parse megabytes of JSON anew, look through the folders of all services, and keep what it
read: a tenth of a second and some ten megabytes a client.
"""

from __future__ import annotations

from types import FunctionType, MethodType
from typing import Any
from weakref import WeakKeyDictionary

import botocore.hooks
import botocore.regions
import botocore.session
from botocore.compat import accepts_kwargs
from botocore.hooks import EVENT_ALIASES, EventAliaser

_create_loader = botocore.session.create_loader
_read: dict[str | None, dict[Any, Any]] = {}
_names: dict[str, str] = {}
_accepting: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_create_provider = botocore.regions.EndpointProvider
_providers: dict[tuple[tuple[str, int], ...], tuple[Any, ...]] = {}  # by the ids of what they are made of


def quicken() -> None:
    """From now on sessions that look in the same folders share what they read, as clients of one do.

    They share the names of events, too, which each client would translate anew, what is known of the
    functions that it registers, and the rules of endpoints.
    """
    botocore.session.create_loader = _create_sharing_loader
    botocore.session.EventAliaser = _SharingAliaser
    botocore.hooks.accepts_kwargs = _accepts_kwargs
    botocore.regions.EndpointProvider = _sharing_provider


class _SharingAliaser(EventAliaser):  # type: ignore[misc]
    """Botocore's, whose copies remember the same names."""

    def __init__(self, event_emitter: Any, event_aliases: Any = None) -> None:
        super().__init__(event_emitter, event_aliases)
        if event_aliases is None or event_aliases == EVENT_ALIASES:
            self._alias_name_cache = _names


def _accepts_kwargs(handler: Any) -> Any:
    function = handler.__func__ if isinstance(handler, MethodType) else handler
    if not isinstance(function, FunctionType):
        return accepts_kwargs(handler)
    if function not in _accepting:
        _accepting[function] = accepts_kwargs(function)
    return _accepting[function]


def _sharing_provider(**given: Any) -> Any:
    key = tuple((name, id(value)) for name, value in sorted(given.items()))
    if key not in _providers:
        _providers[key] = (_create_provider(**given), given)
    return _providers[key][0]


def _create_sharing_loader(search_path_string: str | None = None) -> Any:
    loader = _create_loader(search_path_string)
    loader._cache = _read.setdefault(search_path_string, {})
    return loader
