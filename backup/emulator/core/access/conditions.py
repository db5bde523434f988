"""Conditions of IAM policies: operators on strings, ARNs, numbers, dates, addresses, truth values; pure.

Source: IAM User Guide (condition operators, multivalued context keys): a condition on a missing key is false
for a positive operator and true for a negated one or with `IfExists`. `ForAnyValue` is false for a missing
key, `ForAllValues` true.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache

from msgspec import Struct

from backup.emulator.core.errors import EmulatorError

Context = Mapping[str, str | tuple[str, ...]]
"""The known keys of a request: each has one value, or a tuple of values if it is a multivalued one."""

ANY, ALL = "ForAnyValue:", "ForAllValues:"
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
}
_LITERAL = {"*": "\ue000", "?": "\ue001"}  # stand for characters that are no wildcards in a pattern
_READ = {mark: character for character, mark in _LITERAL.items()}


class Condition(Struct, frozen=True):
    """One operator on one key: `values` are alternatives."""

    operator: str
    key: str
    values: tuple[str, ...]

    def holds(self, context: Context) -> bool:
        """Whether the request's context meets it; keys are compared without regard to case."""
        found = value_of(self.key, context)
        quantifier, operator = _parts(self.operator)
        base = operator.removesuffix("IfExists")
        if base == "Null":
            return (found is None) == (self.values[0].casefold() == "true")
        if not found:
            missing_is_met = base in _NEGATED or operator.endswith("IfExists")
            return quantifier == ALL or (quantifier != ANY and missing_is_met)
        met = [self._meets(base, value) for value in found]
        return any(met) if quantifier == ANY else all(met)

    def _meets(self, base: str, value: str) -> bool:
        test = TESTS[_NEGATED.get(base, base)]
        return any(test(pattern, value) for pattern in self.values) != (base in _NEGATED)


def value_of(key: str, context: Context) -> tuple[str, ...] | None:
    """The values of a key of the context, whatever its case; None if it is not there."""
    found = context.get(key)
    if found is None:
        wanted = key.casefold()
        found = next((value for name, value in context.items() if name.casefold() == wanted), None)
    return (found,) if isinstance(found, str) else found


def _parts(operator: str) -> tuple[str, str]:
    """The quantifier of an operator (empty without one), and the rest."""
    quantifier = next((word for word in (ANY, ALL) if operator.startswith(word)), "")
    return quantifier, operator.removeprefix(quantifier)


def check_condition(condition: Condition, where: str) -> None:
    """EmulatorError, naming `where`, for an operator or a value that this emulator would not evaluate."""
    operator = _parts(condition.operator)[1].removesuffix("IfExists")
    if operator not in TESTS and operator not in _NEGATED and condition.operator != "Null":
        raise EmulatorError(
            f"{where}: the emulator does not evaluate the condition operator {condition.operator}."
        )
    if not condition.values:
        raise EmulatorError(f"{where}: the condition {condition.operator} on {condition.key} has no value.")
    read = _reader(operator)
    for value in condition.values if read else ():
        if read is not None and read(value) is None:
            raise EmulatorError(
                f"{where}: {condition.operator} on {condition.key} cannot compare with {value!r}."
            )


def _reader(operator: str) -> Callable[[str], object] | None:
    """The reader that must understand an operator's values; None where every text will do."""
    kinds: dict[str, Callable[[str], object]] = {
        "Numeric": number,
        "Date": date,
        "Ip": network,
        "NotIp": network,
    }
    return next((read for kind, read in kinds.items() if operator.startswith(kind)), None)


def as_literal(text: str) -> str:
    """A text whose `*` and `?` are no wildcards where it becomes part of a pattern."""
    return "".join(_LITERAL.get(character, character) for character in text)


def _read(pattern: str) -> str:
    return "".join(_READ.get(character, character) for character in pattern)


@lru_cache(maxsize=1024)
def _translated(pattern: str) -> re.Pattern[str]:
    """A regular expression for a wildcard pattern; atomic groups prevent backtracking, so no pattern is
    slow."""
    first, *rest = (
        "".join(
            "." if character == "?" else re.escape(_READ.get(character, character)) for character in piece
        )
        for piece in pattern.split("*")
    )
    if not rest:
        return re.compile(first, re.DOTALL)
    between = "".join(f"(?>.*?{piece})" for piece in rest[:-1] if piece)
    return re.compile(f"{first}{between}.*{rest[-1]}", re.DOTALL)


def matches(pattern: str, value: str) -> bool:
    """Whether a text matches IAM wildcards: `*` any run of characters, `?` one."""
    return _translated(pattern).fullmatch(value) is not None


def arn_matches(pattern: str, value: str) -> bool:
    """Whether an ARN matches a pattern, with wildcards within each of its six colon-separated parts."""
    patterns, values = pattern.split(":", 5), value.split(":", 5)
    return len(patterns) == len(values) == 6 and all(map(matches, patterns, values))


def number(text: str) -> float | None:
    """A number, or None."""
    return float(text) if re.fullmatch(r"-?[0-9]{1,30}(\.[0-9]{1,30})?", text) else None


def date(text: str) -> float | None:
    """Seconds since the epoch of a date in ISO 8601 or in seconds, or None."""
    if number(text) is not None:
        return number(text)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """A network in CIDR notation or a single address, or None."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _within(pattern: str, value: str) -> bool:
    wanted, found = network(pattern), network(value)
    if wanted is None or found is None or wanted.version != found.version:
        return False
    return found.network_address in wanted and found.broadcast_address in wanted


def _same(pattern: str, value: str) -> bool:
    return _read(pattern) == value


def _same_folded(pattern: str, value: str) -> bool:
    return _read(pattern).casefold() == value.casefold()


def _ordered(
    read: Callable[[str], float | None], holds: Callable[[float, float], bool]
) -> Callable[[str, str], bool]:
    """A comparison of the request's value (right) with the policy's (left)."""

    def test(pattern: str, value: str) -> bool:
        left, right = read(pattern), read(value)
        return left is not None and right is not None and holds(right, left)

    return test


_ORDERS: dict[str, Callable[[float, float], bool]] = {
    "Equals": lambda value, limit: value == limit,
    "LessThan": lambda value, limit: value < limit,
    "LessThanEquals": lambda value, limit: value <= limit,
    "GreaterThan": lambda value, limit: value > limit,
    "GreaterThanEquals": lambda value, limit: value >= limit,
}
TESTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": _same,
    "StringEqualsIgnoreCase": _same_folded,
    "StringLike": matches,
    "ArnEquals": arn_matches,
    "ArnLike": arn_matches,
    "Bool": _same_folded,
    "IpAddress": _within,
    **{f"Numeric{name}": _ordered(number, holds) for name, holds in _ORDERS.items()},
    **{f"Date{name}": _ordered(date, holds) for name, holds in _ORDERS.items()},
}
