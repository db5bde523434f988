"""Whether a caller may do something: the policies of identity, session and resource together; pure.

Source: IAM User Guide (policy evaluation logic). An explicit Deny in any policy wins. Within an account one
Allow is enough, of the identity or of the resource; from another account both must allow. A session policy
limits what either of them grants, except where the resource names the session itself by its ARN.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from .conditions import Context
from .policy import Policy, Principal


class AccessRequest(Struct, frozen=True):
    """The wish of a caller: an action on a resource that `account` owns, and what is known of it."""

    action: str
    resource: str
    account: str
    context: Context


class Policies(Struct, frozen=True):
    """The policies that rule a caller; `identity` None allows everything, `session` None limits nothing."""

    identity: Policy | None
    session: Policy | None = None
    of_resource: Sequence[Policy] = ()


def judge(asked: AccessRequest, principal: Principal, policies: Policies) -> str | None:
    """Why it is refused, as the end of AWS's sentence; None if it is allowed."""
    denied = _explicit_deny(asked, principal, policies)
    if denied is not None:
        return f"with an explicit deny in {denied}"
    foreign = asked.account != principal.account_id
    granted = _granted(asked, principal, policies, singled_out=not foreign)
    if foreign and not granted:
        return f"because no resource-based policy allows the {asked.action} action"
    if not foreign and _granted(asked, principal, policies, by_arn=True):
        return None
    if not _allows(policies.identity, asked) and (foreign or not granted):
        return f"because no identity-based policy allows the {asked.action} action"
    if not _allows(policies.session, asked):
        return f"because no session policy allows the {asked.action} action"
    return None


def _explicit_deny(asked: AccessRequest, principal: Principal, policies: Policies) -> str | None:
    """The kind of policy that denies it; None if there is none."""
    action, context, resource = asked.action, asked.context, asked.resource
    for policy in policies.of_resource:
        if policy.denies(action, context, resource=resource, principal=principal):
            return "a resource-based policy"
    kinds = (("an identity-based policy", policies.identity), ("a session policy", policies.session))
    for words, own in kinds:
        if own is not None and own.denies(action, context, resource=resource):
            return words
    return None


def _granted(
    asked: AccessRequest,
    principal: Principal,
    policies: Policies,
    *,
    singled_out: bool = False,
    by_arn: bool = False,
) -> bool:
    return any(
        policy.grants(
            asked.action,
            asked.context,
            resource=asked.resource,
            principal=principal,
            singled_out=singled_out,
            by_arn=by_arn,
        )
        for policy in policies.of_resource
    )


def _allows(policy: Policy | None, asked: AccessRequest) -> bool:
    return policy is None or policy.allows(asked.action, asked.context, resource=asked.resource)
