"""Listens to everything that a program says, and tells which of the planted secrets were in it."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

SHORTEST_LINE = 16
"""Letters of a PEM body's line that are a secret for themselves; its last line may be two."""


class Listener:
    """Secrets by name, and what was said, by who said it."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        self._forms = {name: tuple(_forms(text)) for name, text in secrets.items()}
        self._said: list[tuple[str, bytes]] = []

    def plant_key(self, name: str, path: str) -> None:
        """Each line of a PEM key's body is a secret, and of an EC key its number in hex and decimal."""
        text = Path(path).read_bytes()
        lines = [line for line in text.decode().splitlines() if line[:1] not in {"-", ""} and ":" not in line]
        forms = {line.encode() for line in lines if len(line) >= SHORTEST_LINE}
        assert forms, path
        if b"ENCRYPTED" not in text:
            key = load_pem_private_key(text, None)
            if isinstance(key, ec.EllipticCurvePrivateKey):
                number = key.private_numbers().private_value
                forms |= {f"{number:x}".encode(), f"{number:X}".encode(), f"{number}".encode()}
        self._forms[name] = tuple(forms)

    def hear(self, who: str, *said: bytes | str) -> None:
        """Keep what was said."""
        self._said += [(who, part if isinstance(part, bytes) else part.encode()) for part in said]

    def hear_files(self, who: str, folder: Path, *, but: Sequence[str] = ()) -> None:
        """Keep what stands in all files below a folder, but for what is named as in `but`."""
        for directory, below, names in os.walk(folder):
            below[:] = [name for name in below if not name.startswith(tuple(but))]
            for name in names:
                if not name.startswith(tuple(but)):
                    self.hear(f"{who}: {name}", (Path(directory) / name).read_bytes())

    @property
    def amount(self) -> int:
        """Bytes that were heard."""
        return sum(len(said) for _, said in self._said)

    def told(self) -> list[str]:
        """Who told which secret."""
        return [
            f"{who} told {name}"
            for who, said in self._said
            for name, forms in self._forms.items()
            if any(form in said for form in forms)
        ]


def _forms(text: str) -> set[bytes]:
    """A secret as it is, percent-encoded, in base64, in hex, and with the escapes of `repr`."""
    raw = text.encode()
    coded = {base64.b64encode(raw).rstrip(b"="), raw.hex().encode(), raw.hex().upper().encode()}
    return {raw, quote(text, safe="").encode(), quote(text).encode(), repr(text)[1:-1].encode(), *coded}
