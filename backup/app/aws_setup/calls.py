"""AWS calls with the admin's own credentials, found by boto3's default chain and never stored."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import boto3
import botocore.exceptions as boto
from msgspec import Struct

from backup.errors import DeniedError, IdentityError, NightvaultError
from backup.protocols import Clock
from backup.vault.aws import WRONG_KEYS, make_client, make_s3_client, translated_errors

_GONE = {
    *("NoSuchEntity", "NoSuchBucket", "404", "ResourceNotFoundException"),
    *("NoSuchBucketPolicy", "NoSuchLifecycleConfiguration", "NoSuchTagSet"),
    "ObjectLockConfigurationNotFoundError",
    "NoSuchPublicAccessBlockConfiguration",
}
_BUSY = {
    *("ConcurrentModification", "OperationAborted", "ServiceFailure", "DeleteConflict"),
    *("EntityAlreadyExists", "BucketAlreadyOwnedByYou"),  # a list came late, or somebody was quicker
}
_NOT_EMPTY = "not empty"  # in the words of S3, which has a code for it, and of Glacier, which has none
_TOKENS = {
    "iam": ("Marker", "Marker"),
    "rolesanywhere": ("nextToken", "nextToken"),
    "glacier": ("Marker", "marker"),
    "s3": ("ContinuationToken", "ContinuationToken"),
}
"""The keys by which each service names the next page of a list, and takes it."""

_OWN_KEYS = (
    "a set-up uses your own credentials, as the AWS CLI finds them: `aws sts get-caller-identity` tries "
    "them, and AWS_PROFILE chooses others"
)

READS = 5
"""The number of reads before the user is told that AWS throttles them."""

FIRST_PAUSE = 1.0


class BusyError(NightvaultError):
    """AWS is still busy with an earlier change of the same resource, or already has it."""

    retryable = True


class GoneError(NightvaultError):
    """The resource or setting is not there, not yet or not any more. Reading it again shows which."""

    retryable = True


class NotEmptyError(NightvaultError):
    """A bucket or vault to be deleted is not empty, or a vault was written to since its last inventory."""


class AwsCalls:
    """Clients of the services of one account, made when they are first used.

    `endpoints` are those of the config, by service; without one boto3's own variables
    (AWS_ENDPOINT_URL_IAM …) decide.
    """

    def __init__(
        self,
        region: str,
        endpoints: Mapping[str, str | None],
        *,
        clock: Clock,
        vault_region: str,
        path_style: bool = False,
    ) -> None:
        self._clock = clock
        self._session = boto3.Session(region_name=region)
        self._region = region
        self._vault_region = vault_region
        self._endpoints = endpoints
        self._path_style = path_style
        self._clients: dict[str, Any] = {}

    def call(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Make one call, without retries.

        `DeniedError` names the missing statement; `BusyError`: try again later.
        """
        doing = f"call {service}:{''.join(word.title() for word in operation.split('_'))}"
        try:
            with translated_errors(doing):
                try:
                    answer: Mapping[str, Any] = getattr(self._client(service), operation)(**parameters)
                except boto.ClientError as error:
                    _raise_ours(error, doing)
                    raise
        except DeniedError as error:
            raise _explained(error, operation, parameters) from error
        except IdentityError as error:
            raise IdentityError(str(error), advice=_OWN_KEYS) from error
        return answer

    def read(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Make a call that changes nothing; it is repeated where AWS asks to wait."""
        pause = FIRST_PAUSE
        for left in range(READS - 1, -1, -1):
            try:
                return self.call(service, operation, **parameters)
            except GoneError:
                raise
            except NightvaultError as error:
                is_answer = isinstance(error.__cause__, boto.ClientError)
                if not (error.retryable and is_answer and left):
                    raise
            self._clock.sleep(pause)
            pause *= 2
        raise AssertionError(operation)

    def find(self, service: str, operation: str, **parameters: Any) -> Mapping[str, Any] | None:
        """Same as `read`, but None if the resource or setting does not exist."""
        try:
            return self.read(service, operation, **parameters)
        except GoneError:
            return None

    def all(self, service: str, operation: str, member: str, **given: Any) -> list[Any]:
        """Return the items of a list, from all of its pages."""
        found: list[Any] = []
        told, asked = _TOKENS[service]
        more: dict[str, str] = {}
        while True:
            page = self.read(service, operation, **given, **more)
            found += page.get(member, ())
            if not page.get(told):
                return found
            more = {asked: page[told]}

    def _client(self, service: str) -> Any:
        if service not in self._clients:
            self._clients[service] = self._make(service)
        return self._clients[service]

    def _make(self, service: str) -> Any:
        endpoint = self._endpoints.get(service)
        if service == "s3":
            return make_s3_client(
                self._session, region=self._vault_region, endpoint=endpoint, path_style=self._path_style
            )
        region = self._vault_region if service == "glacier" else self._region
        return make_client(self._session, service, region=region, endpoint=endpoint)


def _raise_ours(error: boto.ClientError, doing: str) -> None:
    """Raise what a step can do something about."""
    told = error.response.get("Error", {})
    code, text = told.get("Code"), str(told.get("Message") or "")
    if code in _BUSY:
        raise BusyError(f"cannot {doing}: {error}") from error
    if code in _GONE:
        raise GoneError(f"cannot {doing}: {error}") from error
    if code == "BucketNotEmpty" or _NOT_EMPTY in text.lower():
        raise NotEmptyError(f"cannot {doing}: {error}") from error


def _explained(error: DeniedError, operation: str, parameters: Mapping[str, Any]) -> DeniedError:
    """Return the denial with the statement that would allow it, to be passed to an administrator."""
    missing = missing_in(str(error))
    if missing is None and operation == "head_bucket":  # S3 gives no reasons in answers to HEAD
        bucket = f"arn:aws:s3:::{parameters['Bucket']}"
        missing = Missing("whoever gives this command", "s3:ListBucket", bucket, is_forbidden=False)
    if missing is None:
        return DeniedError(str(error), advice=_OWN_KEYS) if error.advice == WRONG_KEYS else error
    if missing.is_forbidden:
        advice = "a policy denies it expressly: only somebody who may change that policy can help"
    else:
        statement = json.dumps(missing.statement, indent=2)
        advice = f"{missing.who} lacks this statement; send it to somebody who can grant it:\n{statement}"
    return DeniedError(str(error), advice=advice)


_DENIAL = re.compile(
    r"User: (?P<who>\S+) is not authorized to perform: (?P<action>\S+)"
    r"(?: on resource: (?P<resource>\S+))?(?P<rest>.*)",
    re.DOTALL,
)
_ANY_NEW = re.compile(r"(arn:[^:]+:rolesanywhere:[^:]*:[^:]*:[a-z-]+)/.*")


class Missing(Struct, frozen=True):
    """A permission that AWS denied: who, action and resource.

    `is_forbidden`: an explicit deny, which no Allow lifts.
    """

    who: str
    action: str
    resource: str
    is_forbidden: bool

    @property
    def statement(self) -> Mapping[str, object]:
        """Return the policy statement that would allow the action, as narrow as the error message permits."""
        made: dict[str, object] = {"Effect": "Allow", "Action": self.action, "Resource": self._allowed}
        if self.action == "iam:PassRole":
            made["Condition"] = {"StringEquals": {"iam:PassedToService": "rolesanywhere.amazonaws.com"}}
        return made

    @property
    def _allowed(self) -> str:
        """The resource; of a thing that does not exist yet, all of its kind."""
        new = _ANY_NEW.fullmatch(self.resource)
        return f"{new[1]}/*" if new and self.action == "rolesanywhere:TagResource" else self.resource


def missing_in(text: str) -> Missing | None:
    """Return the denied permission that the text of an error names; None if it names none."""
    found = _DENIAL.search(text)
    if found is None:
        return None
    resource = (found["resource"] or "*").rstrip(".")
    return Missing(found["who"], found["action"], resource, "explicit deny" in found["rest"])
