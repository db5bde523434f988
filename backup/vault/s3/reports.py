"""Objects of a bucket that are no archives, but what servers tell: `reports/` beside `data/` and `meta/`."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

from backup.errors import ThrottledError, VaultError, VaultMissingError
from backup.format.crc64 import crc64
from backup.format.host_report import ListedReport
from backup.vault.aws import translated_errors
from backup.vault.partbody import stay_in_region
from backup.vault.s3 import answers
from backup.vault.s3.keys import DATA, META, NO_ARCHIVES
from backup.vault.s3.requests import BucketRequests

_OURS = (DATA, META, *NO_ARCHIVES)
_TELL, _LOOK = "tell a center through the bucket", "look for what servers tell"


class _ToldAlreadyError(VaultError):
    """S3's code for a key that exists: it is named by a digest of what it holds."""


class ReportObjects:
    """Puts, lists and reads such objects: in the class STANDARD, never overwritten, not locked by us."""

    def __init__(self, requests: BucketRequests) -> None:
        stay_in_region(requests.client)
        self._requests = requests

    @property
    def prefix(self) -> str:
        """The vault's prefix in the bucket."""
        return self._requests.bucket.prefix

    def put(self, name: str, body: bytes) -> None:
        """PutObject below the vault's prefix; no effect where that name is taken."""
        guard: dict[str, Any] = {"ChecksumCRC64NVME": answers.encode_crc(crc64(body))}
        if not self._requests.traits.checks_crc64:
            guard = {
                "ContentMD5": base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest()).decode()
            }
        with suppress(_ToldAlreadyError):
            self._requests.call(
                "put_object",
                _TELL,
                unknown=VaultMissingError,
                meaning={
                    "PreconditionFailed": _ToldAlreadyError,
                    "ConditionalRequestConflict": ThrottledError,
                },
                Key=self.prefix + name,
                Body=body,
                IfNoneMatch="*",
                **guard,
            )

    def places(self) -> Iterator[str]:
        """Prefixes below the vault's, with a slash at the end, that may have reports; first its own."""
        yield self.prefix
        wanted = {"Prefix": self.prefix, "Delimiter": "/"}
        for page in self._requests.pages("list_objects_v2", _LOOK, unknown=VaultMissingError, **wanted):
            for found in page.get("CommonPrefixes", ()):
                if found["Prefix"].removeprefix(self.prefix) not in _OURS:
                    yield found["Prefix"]

    def lines(self, place: str, below: str, after: str) -> Iterator[ListedReport]:
        """The objects of a place whose names begin with `below`, from behind `after` on, by their names."""
        wanted = {"Prefix": place + below, "StartAfter": place + after}
        for page in self._requests.pages("list_objects_v2", _LOOK, unknown=VaultMissingError, **wanted):
            for line in page.get("Contents", ()):
                yield ListedReport(line["Key"].removeprefix(place), line["Size"], line["LastModified"])

    def read(self, key: str, most: int) -> bytes:
        """GetObject of a whole key: at most so many bytes of it. `VaultError` if it is not there."""
        found = self._requests.call("get_object", _LOOK, Key=key)
        with closing(found["Body"]) as body, translated_errors(_LOOK):
            return bytes(body.read(most))
