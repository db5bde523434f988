"""Certificates as JSON and as lines of text, and the option for the type of their keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from backup.credentials.certificate import CertificateFacts

KEY_TYPES = ("rsa-2048", "rsa-4096", "p-256", "p-384")

key_type_option = click.option(
    "--key-type", type=click.Choice(KEY_TYPES), default="p-256", show_default=True, help="The kind of key."
)


def certificate_document(facts: CertificateFacts) -> Mapping[str, object]:
    """Return a certificate as JSON; serials are text, as not every JSON reader has numbers of 20 bytes."""
    return {
        "subject": facts.subject,
        "issuer": facts.issuer,
        "names": list(facts.names),
        "serial": str(facts.serial),
        "serial_hex": facts.serial_hex,
        "not_before": facts.not_before,
        "not_after": facts.not_after,
        "days_left": facts.days_left,
        "key_type": facts.key_type,
    }


def certificate_lines(facts: CertificateFacts) -> Iterator[str]:
    """Return a certificate as text, one line for each property."""
    yield f"subject      {facts.subject}"
    yield f"issuer       {facts.issuer}"
    if facts.names:
        yield f"names        {', '.join(facts.names)}"
    yield f"serial       {facts.serial} (hex {facts.serial_hex})"
    yield f"valid        {facts.not_before:%Y-%m-%d %H:%M} to {facts.not_after:%Y-%m-%d %H:%M} UTC"
    yield f"days left    {facts.days_left}"
    yield f"key          {facts.key_type}"
