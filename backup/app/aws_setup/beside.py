"""Findings that a set-up leaves alone: policies of others on its roles, roles of before; pure."""

from __future__ import annotations

from collections.abc import Iterator

from backup.app.aws_setup.documents import TAG
from backup.app.aws_setup.model import POLICY, Found, FoundRole, Wanted


def beside(wanted: Wanted, found: Found) -> Iterator[str]:
    """Sentences on what was found beside what is wanted."""
    names = {role.name for role in wanted.roles}
    for role in found.roles.values():
        if role.is_ours and role.name not in names:
            yield "\n".join([_of_before(wanted, role), *commands(role), *_deletion(role)])
        elif role.is_ours and (more := _policies(role)):
            yield "\n".join(
                [f"role {role.name} may do more than this set-up lets it: {more}", *commands(role)]
            )
    yield from unseen(found)


def _of_before(wanted: Wanted, role: FoundRole) -> str:
    return (
        f"role {role.name} carries the tag {TAG}={wanted.name}, and this config does not use it: --destroy "
        "removes it with all the rest. If no other server uses it, remove it alone"
    )


def kept_by(role: FoundRole) -> str | None:
    """Why IAM does not delete a role; None if it does."""
    policies = _policies(role)
    if not policies:
        return None
    return (
        f"role {role.name}: it has {policies}, and IAM deletes no role that has policies; take them off, and "
        "give the command again"
    )


def _policies(role: FoundRole) -> str:
    inline = [f"the inline policy {name}" for name in role.others]
    named = [*inline, *(f"the policy {arn}" for arn in role.attached)]
    return f"{' and '.join(named)}, not of this set-up" if named else ""


def commands(role: FoundRole) -> Iterator[str]:
    """The commands that take off a role what no set-up put there."""
    for name in role.others:
        yield f"aws iam delete-role-policy --role-name {role.name} --policy-name {name}"
    for arn in role.attached:
        yield f"aws iam detach-role-policy --role-name {role.name} --policy-arn {arn}"


def _deletion(role: FoundRole) -> Iterator[str]:
    if POLICY in role.policies:
        yield f"aws iam delete-role-policy --role-name {role.name} --policy-name {POLICY}"
    yield f"aws iam delete-role --role-name {role.name}"


def unseen(found: Found) -> Iterator[str]:
    """Sentences on the roles of which it is not known whose they are."""
    for name in found.unseen:
        yield f"role {name} may be of a set-up: you may not see its tags (iam:GetRole)"


def other_arns(wanted: Wanted, found: Found) -> Iterator[str]:
    """Sentences on roles of the wanted names with other ARNs: a name is there once, whatever its path."""
    for role in wanted.roles:
        known = found.roles.get(role.name)
        if known is not None and known.is_ours and known.arn != role.arn:
            yield f"role {role.name} is {known.arn}, not {role.arn} as in the config: correct the config"
