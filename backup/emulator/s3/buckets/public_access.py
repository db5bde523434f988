"""Block Public Access: whether a bucket's policy is public, and what its bucket makes of one that is.

Source: S3 User Guide (access-control-block-public-access, "The meaning of public"). A policy is public unless
each Allow names its callers, or has a condition with fixed values that names them. The two settings on ACLs
need nothing here, since no bucket takes any; there is no block of a whole account.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Network, ip_network

from msgspec import Struct

from backup.emulator.core.access.conditions import Condition
from backup.emulator.core.access.policy import Policy, Statement, parse_policy
from backup.emulator.core.s3_errors import S3Error
from backup.emulator.core.state.store import Transaction
from backup.emulator.s3.xml import parse

KIND = "publicAccessBlock"
ROOT = "PublicAccessBlockConfiguration"
SETTINGS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_NAMING = frozenset(
    {
        *("aws:principalorgid", "aws:principalorgpaths", "aws:principalaccount", "aws:principalarn"),
        *("aws:sourcearn", "aws:sourceaccount", "aws:sourceowner", "aws:sourcevpc", "aws:sourcevpce"),
        *("aws:sourceorgid", "aws:sourceorgpaths", "aws:userid", "s3:dataaccesspointaccount"),
        *("s3:dataaccesspointarn", "s3:x-amz-server-side-encryption-aws-kms-key-id"),
    }
)
"""The condition keys whose fixed values keep a statement from being public."""

_FIXING = frozenset({"stringequals", "stringlike", "stringequalsignorecase", "arnequals", "arnlike"})
_BROADEST = {4: 8, 6: 32}
"""The shortest prefix of a network that is not everybody's."""

_PRIVATE = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))


class Block(Struct, frozen=True):
    """The two settings of a bucket that concern policies."""

    policies: bool
    access: bool


def block_of(tx: Transaction, bucket: int) -> Block:
    """A bucket's block: all of it for one whose block was never set, nothing where it was deleted."""
    row = tx.db.execute(
        "SELECT text FROM bucket_documents WHERE bucket = ? AND kind = ?", (bucket, KIND)
    ).fetchone()
    if row is None:
        return Block(policies=True, access=True)
    return read_block(row["text"].encode()) if row["text"] else Block(policies=False, access=False)


def read_block(body: bytes) -> Block:
    """A block as it is sent; what it does not name is off. MalformedXML for a value that is none."""
    sent = parse(body, ROOT)
    values = {name: (sent.get(name) or "false").lower() for name in SETTINGS}
    if not set(values.values()) <= {"true", "false"}:
        raise S3Error("MalformedXML")
    return Block(values["BlockPublicPolicy"] == "true", values["RestrictPublicBuckets"] == "true")


@lru_cache(maxsize=64)
def parsed(text: str) -> Policy:
    """A bucket's policy as a value."""
    return parse_policy(text, "Policy")


def is_public(policy: Policy) -> bool:
    """Whether a policy lets in anybody, as S3 judges it."""
    return any(_is_public(statement) for statement in policy.statements)


def _is_public(statement: Statement) -> bool:
    everybody = "*" in (*statement.aws_principals, *statement.principals)
    return statement.allows and everybody and not any(map(_names_callers, statement.conditions))


def _names_callers(condition: Condition) -> bool:
    """Whether a condition holds for callers of fixed accounts, networks or the like alone."""
    key, operator = condition.key.lower(), condition.operator.lower().removeprefix("foranyvalue:")
    if key == "aws:sourceip" and operator == "ipaddress":
        return all(map(_is_narrow, condition.values))
    fixed = not any(sign in value for value in condition.values for sign in ("*", "?", "${"))
    return key in _NAMING and operator in _FIXING and fixed


def _is_narrow(text: str) -> bool:
    """Whether a network is private, or small enough to be somebody's."""
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        return False
    private = isinstance(network, IPv4Network) and any(network.subnet_of(known) for known in _PRIVATE)
    return private or network.prefixlen >= _BROADEST[network.version]
