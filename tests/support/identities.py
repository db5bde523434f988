"""Identities for tests, made by the authority or taken from the vectors."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backup.credentials.identity import Identity, IdentityFiles, load_identity
from backup.pki.authority import Authority, create_ca
from backup.pki.issuing import Issued, issue
from backup.pki.keys import KeyType
from backup.pki.subjects import Subject
from tests.support.key_stores import call

ANCHOR = "arn:aws:rolesanywhere:eu-central-1:111122223333:trust-anchor/0aaaaaaa-1111-4222-8333-444444444444"
PROFILE = "arn:aws:rolesanywhere:eu-central-1:111122223333:profile/0bbbbbbb-1111-4222-8333-444444444444"
ROLE = "arn:aws:iam::111122223333:role/backup/GlacierWriter"
NOW = datetime(2026, 3, 1, 2, 0, tzinfo=UTC)


def vectors() -> dict[str, Any]:
    """The vectors' file."""
    path = os.path.join(os.path.dirname(__file__), "..", "vectors", "roles-anywhere-vectors.json")
    with open(path, encoding="utf-8") as file:
        document: dict[str, Any] = json.load(file)
    return document


def write(path: str, *texts: str | bytes) -> str:
    """Write a file and give its path back."""
    with open(path, "wb") as file:
        file.write(b"".join(text.encode() if isinstance(text, str) else text for text in texts))
    return path


def authority_in(directory: str, now: datetime = NOW, days: int = 3650) -> Authority:
    """A new authority."""
    return create_ca(
        directory, Subject("Backup CA"), key_type=KeyType.P_256, days=days, passphrase=None, now=now
    )


def issue_in(
    authority: Authority, directory: str, *, name: str = "web1", now: datetime = NOW, days: int = 90
) -> Issued:
    """A new key and certificate."""
    subject = Subject(name, "Example", "Backup")
    return issue(authority, subject, key_type=KeyType.P_256, days=days, directory=directory, now=now)


def identity_in(directory: str, *, now: datetime = NOW, days: int = 90) -> Identity:
    """An identity of a new authority, below `directory`."""
    issued = issue_in(
        authority_in(os.path.join(directory, "ca"), now), os.path.join(directory, "out"), now=now, days=days
    )
    return load_identity(IdentityFiles(issued.certificate_path, issued.key_path))


def server_certificate(folder: Path, name: str = "localhost") -> tuple[Path, Path]:
    """A TLS certificate of `name` and 127.0.0.1 that vouches for itself, `server.pem`, and its key."""
    key, certificate = folder / "server.key", folder / "server.pem"
    names = ("-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1", "-subj", f"/CN={name}")
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key)
    call("openssl", "req", "-x509", *new, *names, "-days", "2", "-out", certificate)
    return certificate, key
