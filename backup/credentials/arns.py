"""Parse Amazon resource names, and the endpoint of Roles Anywhere in a region; pure."""

from __future__ import annotations

from dataclasses import dataclass

from backup.errors import ConfigError

_SUFFIXES = {
    "aws": "amazonaws.com",
    "aws-us-gov": "amazonaws.com",
    "aws-cn": "amazonaws.com.cn",
    "aws-eusc": "amazonaws.eu",
    "aws-iso": "c2s.ic.gov",
    "aws-iso-b": "sc2s.sgov.gov",
    "aws-iso-e": "cloud.adc-e.uk",
    "aws-iso-f": "csp.hci.ic.gov",
}
"""The DNS suffix of each partition, as botocore's endpoint data of 2026 has them."""


@dataclass(frozen=True, slots=True)
class Arn:
    """An ARN, `arn:partition:service:region:account:resource`; IAM's have no region."""

    partition: str
    service: str
    region: str
    account: str
    resource: str


def parse_arn(text: str, key: str) -> Arn:
    """Parse an ARN; `ConfigError` names the config's `key` if it is not one."""
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or not all((parts[1], parts[2], parts[5])):
        raise ConfigError(
            f"{key}: {text!r} is not an ARN", advice="copy it from the AWS console: it begins with arn:aws:"
        )
    return Arn(*parts[1:])


def parse_roles_anywhere_arn(text: str, key: str, kind: str) -> Arn:
    """Parse the ARN of a `kind` (trust-anchor, profile) or of an alias of that kind."""
    arn = parse_arn(text, key)
    fits = arn.resource.startswith((f"{kind}/", f"alias/{kind}/"))
    if arn.service != "rolesanywhere" or not arn.region or not fits:
        raise ConfigError(
            f"{key}: {text!r} does not name a {kind}",
            advice=f"it looks like arn:aws:rolesanywhere:REGION:ACCOUNT:{kind}/ID",
        )
    return arn


def parse_role_arn(text: str, key: str) -> Arn:
    """Parse the ARN of an IAM role."""
    arn = parse_arn(text, key)
    if arn.service != "iam" or not arn.resource.startswith("role/"):
        raise ConfigError(
            f"{key}: {text!r} does not name a role", advice="it looks like arn:aws:iam::ACCOUNT:role/NAME"
        )
    return arn


def default_endpoint(partition: str, region: str) -> str:
    """The URL of Roles Anywhere in a region; `ConfigError` for an unknown partition."""
    suffix = _SUFFIXES.get(partition)
    if suffix is None:
        raise ConfigError(
            f"roles_anywhere.trust_anchor_arn: the partition {partition!r} is not known",
            advice="set roles_anywhere.endpoint to the service's URL",
        )
    return f"https://rolesanywhere.{region}.{suffix}"
