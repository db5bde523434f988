"""IAM policies, as far as roles for backups need them: Allow and Deny, wildcards, principals and string
conditions.

Source: IAM User Guide (policy elements, evaluation logic): an explicit Deny wins, else an Allow is needed; a
condition on a missing key is false for a positive operator and true for a negated one or with `IfExists`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from .errors import EmulatorError

Context = Mapping[str, str]

_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
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
        test = _TESTS[_NEGATED.get(operator, operator)]
        return any(test(pattern, value) for pattern in self.values) != negated


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement; `principals` and `resources` are empty where the policy has no such element."""

    allows: bool
    principals: tuple[str, ...]
    actions: tuple[str, ...]
    not_actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...]

    def applies(self, action: str, context: Context, *, resource: str | None, service: str | None) -> bool:
        """Whether it speaks of this action on this resource by this service principal."""
        if service is not None and not any(name in ("*", service) for name in self.principals):
            return False
        if resource is not None and not any(matches(pattern, resource) for pattern in self.resources):
            return False
        return self._names(action) and all(condition.holds(context) for condition in self.conditions)

    def _names(self, action: str) -> bool:
        if self.not_actions:
            return not _any_action(self.not_actions, action)
        return _any_action(self.actions, action)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy document."""

    statements: tuple[Statement, ...]

    def allows(
        self, action: str, context: Context, *, resource: str | None = None, service: str | None = None
    ) -> bool:
        """Evaluate: at least one Allow applies and no Deny does."""
        found = [s for s in self.statements if s.applies(action, context, resource=resource, service=service)]
        return bool(found) and all(statement.allows for statement in found)

    def denies(self, action: str, context: Context, *, resource: str) -> bool:
        """Whether an explicit Deny applies."""
        return any(
            not s.allows and s.applies(action, context, resource=resource, service=None)
            for s in self.statements
        )


def matches(pattern: str, value: str) -> bool:
    """IAM wildcards: `*` any run of characters, `?` one."""
    translated = "".join(".*" if c == "*" else "." if c == "?" else re.escape(c) for c in pattern)
    return re.fullmatch(translated, value, re.DOTALL) is not None


def arn_matches(pattern: str, value: str) -> bool:
    """Wildcards within each of an ARN's six colon-separated parts."""
    patterns, values = pattern.split(":", 5), value.split(":", 5)
    return len(patterns) == len(values) == 6 and all(map(matches, patterns, values))


def _same(pattern: str, value: str) -> bool:
    return pattern == value


def _same_folded(pattern: str, value: str) -> bool:
    return pattern.casefold() == value.casefold()


_TESTS: dict[str, Callable[[str, str], bool]] = {
    "StringEquals": _same,
    "StringEqualsIgnoreCase": _same_folded,
    "StringLike": matches,
    "ArnEquals": arn_matches,
    "ArnLike": arn_matches,
}


def _any_action(patterns: Iterable[str], action: str) -> bool:
    return any(matches(pattern.casefold(), action.casefold()) for pattern in patterns)


def parse_policy(text: str, where: str) -> Policy:
    """Read a policy document; EmulatorError, naming `where`, for what this emulator would not evaluate."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise EmulatorError(f"{where}: the policy is not JSON: {error}.") from error
    statements = document.get("Statement") if isinstance(document, dict) else None
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not all(isinstance(statement, dict) for statement in statements):
        raise EmulatorError(f"{where}: the policy needs a Statement, an object or a list of objects.")
    return Policy(tuple(_statement(statement, where) for statement in statements))


_STATEMENT_KEYS = {"Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "Condition"}


def _statement(raw: Mapping[str, object], where: str) -> Statement:
    strange = sorted(set(raw) - _STATEMENT_KEYS)
    if strange:
        raise EmulatorError(f"{where}: the emulator does not evaluate the policy element {strange[0]}.")
    if raw.get("Effect") not in ("Allow", "Deny"):
        raise EmulatorError(f"{where}: a statement's Effect must be Allow or Deny.")
    if ("Action" in raw) == ("NotAction" in raw):
        raise EmulatorError(f"{where}: a statement needs Action or NotAction.")
    return Statement(
        allows=raw["Effect"] == "Allow",
        principals=_principals(raw.get("Principal"), where),
        actions=_strings(raw.get("Action", []), f"{where}: Action"),
        not_actions=_strings(raw.get("NotAction", []), f"{where}: NotAction"),
        resources=_strings(raw.get("Resource", []), f"{where}: Resource"),
        conditions=_conditions(raw.get("Condition", {}), where),
    )


def _principals(raw: object, where: str) -> tuple[str, ...]:
    if isinstance(raw, dict):
        return _strings(raw.get("Service", []), f"{where}: Principal.Service")
    return ("*",) if raw == "*" else ()


def _conditions(raw: object, where: str) -> tuple[Condition, ...]:
    if not isinstance(raw, dict) or not all(isinstance(keys, dict) for keys in raw.values()):
        raise EmulatorError(f"{where}: Condition must map an operator to keys and values.")
    for operator in raw:
        name = operator.removesuffix("IfExists")
        if name not in _TESTS and name not in _NEGATED and operator != "Null":
            raise EmulatorError(f"{where}: the emulator does not evaluate the condition operator {operator}.")
    return tuple(
        Condition(operator, key, _strings(values, f"{where}: Condition.{operator}.{key}"))
        for operator, keys in raw.items()
        for key, values in keys.items()
    )


def _strings(raw: object, where: str) -> tuple[str, ...]:
    values = raw if isinstance(raw, list) else [raw]
    if not all(isinstance(value, str) for value in values):
        raise EmulatorError(f"{where} must be a string or a list of strings.")
    return tuple(values)
