"""Conditions of IAM policies: the operators on strings, ARNs, numbers, dates and truth values; pure.

Source: IAM User Guide (condition operators): a condition on a missing key is false for a positive operator
and true for a negated one or with `IfExists`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from .errors import EmulatorError

Context = Mapping[str, str]

_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
}


@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key: `values` are alternatives."""

    operator: str
    key: str
    values: tuple[str, ...]

    def holds(self, context: Context) -> bool:
        """Whether the request's context meets it; keys are compared without regard to case."""
        folded = {key.casefold(): value for key, value in context.items()}
        value = folded.get(self.key.casefold())
        operator = self.operator.removesuffix("IfExists")
        if operator == "Null":
            return (value is None) == (self.values[0].casefold() == "true")
        negated = operator in _NEGATED
        if value is None:
            return negated or self.operator.endswith("IfExists")
        test = TESTS[_NEGATED.get(operator, operator)]
        return any(test(pattern, value) for pattern in self.values) != negated


def check_condition(condition: Condition, where: str) -> None:
    """EmulatorError, naming `where`, for an operator or a value that this emulator would not evaluate."""
    operator = condition.operator.removesuffix("IfExists")
    if operator not in TESTS and operator not in _NEGATED and condition.operator != "Null":
        raise EmulatorError(
            f"{where}: the emulator does not evaluate the condition operator {condition.operator}."
        )
    if not condition.values:
        raise EmulatorError(f"{where}: the condition {condition.operator} on {condition.key} has no value.")
    read = number if operator.startswith("Numeric") else date if operator.startswith("Date") else None
    for value in condition.values if read else ():
        if read is not None and read(value) is None:
            raise EmulatorError(
                f"{where}: {condition.operator} on {condition.key} cannot compare with {value!r}."
            )


@lru_cache(maxsize=1024)
def _translated(pattern: str) -> re.Pattern[str]:
    """A regular expression for a wildcard pattern; atomic groups prevent backtracking, so no pattern is
    slow."""
    first, *rest = ("".join("." if c == "?" else re.escape(c) for c in piece) for piece in pattern.split("*"))
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


def _same(pattern: str, value: str) -> bool:
    return pattern == value


def _same_folded(pattern: str, value: str) -> bool:
    return pattern.casefold() == value.casefold()


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
    **{f"Numeric{name}": _ordered(number, holds) for name, holds in _ORDERS.items()},
    **{f"Date{name}": _ordered(date, holds) for name, holds in _ORDERS.items()},
}
