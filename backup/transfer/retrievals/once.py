"""One request, sent once: a lost answer is found again by the request's token and not paid twice."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from backup.model import RetrievalId
from backup.protocols import Vault
from backup.transfer.retry import RetryPolicy


def new_token() -> str:
    """A name for a request, drawn and recorded before it is sent."""
    return os.urandom(12).hex()


def ask_once(
    vault: Vault,
    patience: RetryPolicy,
    token: str,
    send: Callable[[], RetrievalId],
    known: Mapping[str, RetrievalId] | None = None,
) -> RetrievalId:
    """The id of the request with that token: of the one that was taken before, else of the one sent now.

    `known` is what the vault said of its open retrievals a moment ago; it is asked again only after a try
    whose answer may have been lost.
    """
    tried = False

    def ask() -> RetrievalId:
        nonlocal tried
        found = vault.open_retrievals() if tried else known or {}
        tried = True
        return found.get(token) or send()

    return patience.call(ask)
