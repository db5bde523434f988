"""IAM policies: Allow and Deny, wildcards, exceptions, principals, conditions and policy variables; pure.

Source: IAM User Guide (policy elements, policy variables, evaluation logic): an explicit Deny wins, else an
Allow is needed. A statement with a variable that has no value in the request applies to nothing, be it an
Allow or a Deny.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from backup.emulator.core.errors import EmulatorError

from .conditions import Condition, Context, as_literal, check_condition, matches, value_of


class Principal(Struct, frozen=True):
    """A caller as resource policies name it: by account, by role, by the session's ARN."""

    account_id: str
    arn: str
    role_arn: str | None

    def is_named(self, name: str) -> bool:
        """Whether an `AWS` principal includes this caller, by itself or with its whole account."""
        return self.is_singled_out(name) or name in (
            self.account_id,
            f"arn:aws:iam::{self.account_id}:root",
        )

    def is_singled_out(self, name: str) -> bool:
        """Whether an `AWS` principal names this caller itself, or everyone."""
        return name in ("*", self.arn, self.role_arn)


class Statement(Struct, frozen=True):
    """One statement; `principals` (services), `aws_principals`, `resources` and `not_resources` are empty
    where the policy has no such element. `has_variables`: `${…}` in it stand for values of the request.
    """

    allows: bool
    principals: tuple[str, ...]
    aws_principals: tuple[str, ...]
    actions: tuple[str, ...]
    not_actions: tuple[str, ...]
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...]
    not_resources: tuple[str, ...] = ()
    has_variables: bool = False

    def applies(
        self,
        action: str,
        context: Context,
        *,
        resource: str | None,
        service: str | None = None,
        principal: Principal | None = None,
    ) -> bool:
        """Whether the statement applies to this action on this resource by this service or AWS principal."""
        if service is not None and not any(name in ("*", service) for name in self.principals):
            return False
        if principal is not None and not any(map(principal.is_named, self.aws_principals)):
            return False
        if not self._names(action):
            return False
        statement = _resolved(self, context) if self.has_variables else self
        return statement is not None and statement.holds(resource, context)

    def holds(self, resource: str | None, context: Context) -> bool:
        """Whether it is about this resource and all of its conditions are met; its variables have values."""
        if resource is not None and self.not_resources:
            if any(matches(pattern, resource) for pattern in self.not_resources):
                return False
        elif resource is not None and not any(matches(pattern, resource) for pattern in self.resources):
            return False
        return all(condition.holds(context) for condition in self.conditions)

    def _names(self, action: str) -> bool:
        if self.not_actions:
            return not _any_action(self.not_actions, action)
        return _any_action(self.actions, action)


class Policy(Struct, frozen=True):
    """A policy document."""

    statements: tuple[Statement, ...]

    def allows(
        self, action: str, context: Context, *, resource: str | None = None, service: str | None = None
    ) -> bool:
        """Whether at least one Allow applies and no Deny does."""
        found = [
            statement
            for statement in self.statements
            if statement.applies(action, context, resource=resource, service=service)
        ]
        return bool(found) and all(statement.allows for statement in found)

    def denies(
        self, action: str, context: Context, *, resource: str, principal: Principal | None = None
    ) -> bool:
        """Whether an explicit Deny applies."""
        return any(
            not statement.allows
            and statement.applies(action, context, resource=resource, principal=principal)
            for statement in self.statements
        )

    def grants(
        self,
        action: str,
        context: Context,
        *,
        resource: str,
        principal: Principal,
        singled_out: bool = False,
        by_arn: bool = False,
    ) -> bool:
        """Whether a resource's policy allows a caller; `singled_out`: not merely its whole account; `by_arn`:
        by the caller's own ARN, which for a role is that of the session."""
        return any(
            statement.allows
            and statement.applies(action, context, resource=resource, principal=principal)
            and (not singled_out or any(map(principal.is_singled_out, statement.aws_principals)))
            and (not by_arn or principal.arn in statement.aws_principals)
            for statement in self.statements
        )


_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_DEFAULT = re.compile(r"\s*([^,]+?)\s*,\s*'([^']*)'\s*")


class _UnknownVariable(Exception):  # noqa: N818 (it never leaves this module)
    """A variable has no single value in the request, and no default."""


def _resolved(statement: Statement, context: Context) -> Statement | None:
    """The statement with the request's values in place of its variables; None if one has no value."""

    def fill(texts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_VARIABLE.sub(lambda found: _value(found[1], context), text) for text in texts)

    try:
        return replace(
            statement,
            resources=fill(statement.resources),
            not_resources=fill(statement.not_resources),
            conditions=tuple(
                replace(condition, values=fill(condition.values)) for condition in statement.conditions
            ),
        )
    except _UnknownVariable:
        return None


def _value(words: str, context: Context) -> str:
    if words in ("*", "?", "$"):
        return as_literal(words)
    told = _DEFAULT.fullmatch(words)
    found = value_of(told[1] if told else words.strip(), context)
    if found is not None and len(found) == 1:
        return as_literal(found[0])
    if told is None:
        raise _UnknownVariable(words)
    return as_literal(told[2])


def _any_action(patterns: Iterable[str], action: str) -> bool:
    return any(matches(pattern.casefold(), action.casefold()) for pattern in patterns)


def parse_policy(text: str, where: str) -> Policy:
    """Read a policy document; EmulatorError, naming `where`, for what this emulator would not evaluate."""
    try:
        document = json.loads(text)
        json.dumps(document, ensure_ascii=False).encode()  # half a surrogate could not be named in an answer
    except (ValueError, RecursionError) as error:
        raise EmulatorError(f"{where}: the policy is not JSON: {error}.") from error
    statements = document.get("Statement") if isinstance(document, dict) else None
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not all(isinstance(statement, dict) for statement in statements):
        raise EmulatorError(f"{where}: the policy needs a Statement, an object or a list of objects.")
    version = document.get("Version", _WITHOUT_VARIABLES) if isinstance(document, dict) else None
    if version not in (_WITHOUT_VARIABLES, _WITH_VARIABLES):
        raise EmulatorError(f"{where}: the Version must be {_WITH_VARIABLES} or {_WITHOUT_VARIABLES}.")
    variables = version == _WITH_VARIABLES
    return Policy(tuple(_statement(statement, where, variables=variables) for statement in statements))


_WITH_VARIABLES, _WITHOUT_VARIABLES = "2012-10-17", "2008-10-17"
_STATEMENT_KEYS = {
    *("Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "NotResource", "Condition"),
}


def _statement(raw: Mapping[str, object], where: str, *, variables: bool) -> Statement:
    strange = sorted(set(raw) - _STATEMENT_KEYS)
    if strange:
        raise EmulatorError(f"{where}: the emulator does not evaluate the policy element {strange[0]}.")
    if raw.get("Effect") not in ("Allow", "Deny"):
        raise EmulatorError(f"{where}: a statement's Effect must be Allow or Deny.")
    if ("Action" in raw) == ("NotAction" in raw):
        raise EmulatorError(f"{where}: a statement needs Action or NotAction.")
    if "Resource" in raw and "NotResource" in raw:
        raise EmulatorError(f"{where}: a statement has Resource or NotResource, not both.")
    principal = raw.get("Principal")
    return Statement(
        allows=raw["Effect"] == "Allow",
        principals=_principals(principal, "Service", where),
        aws_principals=_principals(principal, "AWS", where),
        actions=_strings(raw.get("Action", []), f"{where}: Action"),
        not_actions=_strings(raw.get("NotAction", []), f"{where}: NotAction"),
        resources=_strings(raw.get("Resource", []), f"{where}: Resource"),
        conditions=_conditions(raw.get("Condition", {}), where),
        not_resources=_strings(raw.get("NotResource", []), f"{where}: NotResource"),
        has_variables=variables and "${" in json.dumps(raw),
    )


def _principals(raw: object, kind: str, where: str) -> tuple[str, ...]:
    if isinstance(raw, dict):
        return _strings(raw.get(kind, []), f"{where}: Principal.{kind}")
    return ("*",) if raw == "*" else ()


def _conditions(raw: object, where: str) -> tuple[Condition, ...]:
    if not isinstance(raw, dict) or not all(isinstance(keys, dict) for keys in raw.values()):
        raise EmulatorError(f"{where}: Condition must map an operator to keys and values.")
    conditions = tuple(
        Condition(operator, key, _values(values, f"{where}: Condition.{operator}.{key}"))
        for operator, keys in raw.items()
        for key, values in keys.items()
    )
    for condition in conditions:
        check_condition(condition, where)
    return conditions


def _values(raw: object, where: str) -> tuple[str, ...]:
    """The values of a condition as texts; numbers and booleans as they are written in JSON."""
    values = raw if isinstance(raw, list) else [raw]
    texts = [json.dumps(value) if isinstance(value, bool | int | float) else value for value in values]
    return _strings(texts, where)


def _strings(raw: object, where: str) -> tuple[str, ...]:
    values = raw if isinstance(raw, list) else [raw]
    if not all(isinstance(value, str) for value in values):
        raise EmulatorError(f"{where} must be a string or a list of strings.")
    return tuple(values)
