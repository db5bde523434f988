"""The answers of `begin` as frozen values, the same from a terminal and from a file."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

VAULT, JOB, DRILL = "backups", "files", "one-file"
"""The names that the first vault, job and drill have."""

CHECK_AGE: Mapping[str, str] = {"daily": "3d", "weekly": "14d", "monthly": "40d"}
"""The age of the last good check at which `status` warns, by how often one is made."""


class Where(StrEnum):
    """The kinds of place that backups can go to."""

    DISK = "disk"
    AWS = "aws"
    GLACIER = "glacier"
    S3 = "s3"

    @property
    def is_set_up(self) -> bool:
        """Whether it is in AWS, where `setup aws` makes what it needs."""
        return self in {Where.AWS, Where.GLACIER}


class Tell(StrEnum):
    """The ways to tell people."""

    NOBODY = "nobody"
    MAIL = "mail"
    NTFY = "ntfy"
    WEBHOOK = "webhook"
    PING = "ping"


class Answers(Struct, frozen=True):
    """All answers of `begin`; those to questions that were not asked keep their defaults, and mean nothing.

    `schedule` and `check`: None for by hand only. `keep`: rules of a policy, None: all snapshots.
    `recipient`: the public half of a key that was made elsewhere, as nvr1… or file:PATH; None: a key is made
    here, in `key_file`. `authority`: the certificate of the authority by which AWS is set up from here, None:
    elsewhere. `first_backup`: whether a backup follows at once.
    """

    sources: tuple[str, ...] = ()
    where: Where = Where.DISK
    path: str = ""
    region: str = ""
    vault: str = ""
    endpoint: str = ""
    bucket: str = ""
    path_style: bool = True
    crc: bool = True
    storage_class: str = ""
    certificate: str = ""
    private_key: str = ""
    schedule: str | None = None
    keep: Mapping[str, str | int] | None = None
    check: str | None = None
    recipient: str | None = None
    key_file: str = ""
    sheet: str | None = None
    tell: Tell = Tell.NOBODY
    tell_to: str = ""
    mail_host: str = ""
    mail_user: str = ""
    mail_password_file: str = ""
    authority: str | None = None
    first_backup: bool = True

    @property
    def is_cold(self) -> bool:
        """Whether data must be requested hours before it can be read."""
        return self.where is Where.GLACIER or (
            self.where is Where.AWS and self.storage_class in {"DEEP_ARCHIVE", "GLACIER"}
        )


class ConfigPaths(Struct, frozen=True):
    """The future config's path, what follows from it (as the state directory), and this machine's name."""

    config: str
    state: str
    host: str
