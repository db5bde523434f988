"""The demo's intruder: with each role of a server's config all is tried that could harm its bucket."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from backup.app.base.clock import SystemClock
from backup.app.base.vaults import Purpose, bucket_requests
from backup.config import load_config
from backup.errors import DeniedError, VaultError

_ROLES = (Purpose.BACKUP, Purpose.RESTORE, Purpose.PRUNE, Purpose.LOCK)


class Trial(Struct, frozen=True):
    """One kind of attack: how often it was tried, how often it was done, and with which roles."""

    what: str
    tried: int
    done: int
    roles: tuple[str, ...]

    @property
    def result(self) -> str:
        """Return its outcome, in a few words."""
        return f"done, by the {' and the '.join(self.roles)} role" if self.roles else "refused"


class Intruder:
    """Somebody who has taken a server over, and with it the roles that its config names."""

    def __init__(self, config_path: str, endpoint: str) -> None:
        """`endpoint` is that of Roles Anywhere."""
        config = load_config(config_path)
        vault, anywhere = config.vault("cold"), config.roles_anywhere
        if anywhere is not None:
            config = replace(config, roles_anywhere=replace(anywhere, endpoint=endpoint))
        self._roles = {
            purpose.name.lower(): bucket_requests(config, vault, purpose, SystemClock()) for purpose in _ROLES
        }
        self._ours = self._listed("list_object_versions", "Versions")

    def _listed(self, operation: str, lines: str) -> list[Mapping[str, Any]]:
        pages = self._roles["backup"].pages(operation, "look around")
        return [line for page in pages for line in page.get(lines, ())]

    def destroy(self) -> list[Trial]:
        """Delete what is stored, end its locks, take away what protects the bucket."""
        versions = [{"Key": line["Key"], "VersionId": line["VersionId"]} for line in self._ours]
        bypass: dict[str, Any] = {"BypassGovernanceRetention": True}
        now = SystemClock().now()
        far = {"Mode": "GOVERNANCE", "RetainUntilDate": now + timedelta(days=36500)}
        soon = {**far, "RetainUntilDate": now + timedelta(days=1)}
        rule = {"ID": "a", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": 1}}
        locks = "put_object_retention"
        return [
            self._try("delete each object, by its version", "delete_object", versions),
            self._try(
                "the same, and bypass its lock", "delete_object", ({**each, **bypass} for each in versions)
            ),
            self._try("end each lock", locks, ({**each, "Retention": {}, **bypass} for each in versions)),
            self._try("shorten each lock", locks, ({**each, "Retention": soon} for each in versions)),
            self._try("lock for a hundred years", locks, ({**each, "Retention": far} for each in versions)),
            self._try(
                "switch versions off",
                "put_bucket_versioning",
                [{"VersioningConfiguration": {"Status": "Suspended"}}],
            ),
            self._try(
                "have a rule of the bucket delete all",
                "put_bucket_lifecycle_configuration",
                [{"LifecycleConfiguration": {"Rules": [rule]}}],
            ),
            self._try("take the bucket's policy away", "delete_bucket_policy", [{}]),
            self._try("overwrite each object", "put_object", self._junk()),
        ]

    def cover(self) -> list[Trial]:
        """Put a delete marker over each object, and junk in its place."""
        markers = ({"Key": line["Key"], "IfMatch": line["ETag"]} for line in self._ours)
        return [
            self._try("hide each object behind a delete marker", "delete_object", markers),
            self._try(
                "put junk where it was", "put_object", ({**each, "IfNoneMatch": "*"} for each in self._junk())
            ),
        ]

    def _junk(self) -> Iterable[dict[str, Any]]:
        return (
            {"Key": line["Key"], "Body": b"x" * (line["Size"] or 1), "StorageClass": line["StorageClass"]}
            for line in self._ours
        )

    def _try(self, what: str, operation: str, requests: Iterable[Mapping[str, Any]]) -> Trial:
        """Send each request with each role."""
        roles, tried = [], 0
        for request in requests:
            for name, role in self._roles.items():
                tried += 1
                with suppress(DeniedError, VaultError):
                    role.call(operation, what, **request)
                    roles.append(name)
        return Trial(what, tried, len(roles), tuple(dict.fromkeys(roles)))

    def seen(self) -> tuple[int, int]:
        """Count the objects that any other program sees, and those of them that we stored."""
        ours = {(line["Key"], line["ETag"]) for line in self._ours}
        shown = self._listed("list_objects_v2", "Contents")
        return len(shown), sum((line["Key"], line["ETag"]) in ours for line in shown)
