"""`[[vault]]`: where archives are kept, and how; each type of text has the message for a wrong value."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from backup.config.shapes import NAME, NAME_SENTENCE, Endpoint, Text, shape
from backup.config.values import (
    DEFAULT_GRACE,
    DEFAULT_HORIZON,
    DEFAULT_LOCK_FOR,
    DEFAULT_LOCK_STEP,
    LimitSettings,
    local_zone,
)
from backup.model import MIB, Tier, VaultName
from backup.schedule import Schedule, parse_schedule

_Name = shape(NAME, NAME_SENTENCE)
_Kind = Annotated[str, shape("directory|glacier|s3", "must be directory, glacier or s3")]
_AnyRegion = Annotated[str, shape("[A-Za-z0-9-]{1,64}", "must look like eu-central-1")]
_Account = Annotated[str, shape("-|[0-9]{12}", 'must be 12 digits in quotes, or "-"')]
_Stored = Annotated[str, shape("[A-Za-z0-9_.-]{1,255}", "must be 1 to 255 letters, digits and _.-")]
_Bucket = Annotated[
    str, shape("[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "must be 3 to 63 small letters, digits, dots and hyphens")
]
_Prefix = Annotated[
    str,
    shape(
        "|([A-Za-z0-9!_.*'()-]+/)+",
        "must be letters, digits and !_.*'()- and end with a slash; it must not begin with a slash",
    ),
]
_CLASSES = "GLACIER|DEEP_ARCHIVE|GLACIER_IR|STANDARD|STANDARD_IA|ONEZONE_IA|[A-Z][A-Z0-9_]{1,63}"
_Class = Annotated[str, shape(_CLASSES, "must be a class in capitals, such as DEEP_ARCHIVE")]
_HOT = "must be a class that is read at once: STANDARD or STANDARD_IA"
_HotClass = Annotated[str, shape("STANDARD|STANDARD_IA", _HOT)]
_Checksums = Annotated[str, shape("crc64nvme|none", "must be crc64nvme or none")]
_Sample = Annotated[
    str,
    shape(r"[0-9]{1,3}(\.[0-9]{1,9})?%|[0-9]+ ?(KiB|MiB|GiB)", 'must be a share or a size: "1%", "5GiB"'),
]
_Lock = Annotated[str, shape("governance|compliance", "must be governance or compliance")]
_Deletes = Annotated[str, shape("here|elsewhere", "must be here or elsewhere")]
_ROLE = r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[\w+=,.@/-]+"
_Role = Annotated[str, shape(_ROLE, "must look like arn:aws:iam::ACCOUNT:role/NAME")]


class VaultSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `[[vault]]`; `kind` decides which of the others are set: directory `path`, glacier `region` and
    `vault`, s3 `region` and `bucket`.

    Sizes are bytes; `account_id` "-" means the account of the credentials, or for S3 of `role_arn`, if there
    is one. `retrieval_days`: how long S3
    keeps what was retrieved. `parts_at_once`: so many, None: as many as make it faster. `deletes`: whether
    this server may delete, None: as follows from its rights. `check`, `prune`, `compact`: schedules;
    `check_sample`: how much a check reads back, as "1%" or "5GiB". `prune_grace`, `compact_horizon`: seconds.
    `keep_within`: a span, the floor of whoever deletes in place of servers. `lock`: what is stored is locked
    in that mode, for `lock_for` seconds, rounded up to a `lock_step`; `lock_forever`: the vault's name, typed
    by whoever means it.
    """

    name: Annotated[VaultName, _Name]
    kind: _Kind
    path: Text | None = None
    region: _AnyRegion | None = None
    vault: _Stored | None = None
    bucket: _Bucket | None = None
    prefix: _Prefix = ""
    storage_class: _Class = "DEEP_ARCHIVE"
    catalog_class: _HotClass = "STANDARD"
    retrieval_days: Annotated[int, Meta(ge=1, le=365)] = 7
    path_style: bool = False
    checksums: _Checksums = "crc64nvme"
    account_id: _Account = "-"
    endpoint: Endpoint | None = None
    role_arn: _Role | None = None
    restore_role_arn: _Role | None = None
    copy_role_arn: _Role | None = None
    prune_role_arn: _Role | None = None
    lock_role_arn: _Role | None = None
    lock: _Lock | None = None
    lock_for: int = DEFAULT_LOCK_FOR
    lock_step: int = DEFAULT_LOCK_STEP
    lock_forever: str | None = None
    extend: str | None = None
    pack_size: int = 0  # once read: that of the kind
    part_size: int = 32 * MIB
    parts_at_once: Annotated[int, Meta(ge=1, le=64)] | None = None
    tier: Tier = Tier.STANDARD
    upload_limit: tuple[LimitSettings, ...] = ()
    download_limit: tuple[LimitSettings, ...] = ()
    deletes: _Deletes | None = None
    check: str | None = None
    check_sample: _Sample | None = None
    prune: str | None = None
    prune_grace: int = DEFAULT_GRACE
    compact: str | None = None
    compact_horizon: int = DEFAULT_HORIZON
    keep_within: str | None = None

    @property
    def is_in_aws(self) -> bool:
        """Whether it is in AWS itself: not a directory, nor a bucket of another service."""
        return self.kind == "glacier" or (self.kind == "s3" and self.endpoint is None)

    def when(self, kind: str) -> Schedule | None:
        """The parsed schedule of that kind of task, in this machine's time zone; None: by hand only."""
        text: str | None = getattr(self, kind)
        return None if text is None else parse_schedule(text, local_zone())

    @property
    def smallest_part(self) -> int:
        """The smallest part in bytes; S3's own bound is 5 MiB, and parts are powers of two."""
        return (8 if self.kind == "s3" else 1) * MIB

    def __post_init__(self) -> None:
        """Set the pack size by the kind: packs are smaller on S3, which retrieves them only whole."""
        if not self.pack_size:
            msgspec.structs.force_setattr(self, "pack_size", (64 if self.kind == "s3" else 224) * MIB)
