"""Findings that a set-up leaves alone: policies of others on its roles, roles of before; pure."""

from __future__ import annotations

import json
from collections.abc import Iterator

from backup.app.aws_setup.documents import TAG, Document
from backup.app.aws_setup.model import POLICY, Found, FoundRole, Wanted

_SUBJECT = "aws:PrincipalTag/x509Subject/"


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
    for place in found.old_places:
        how = "--destroy leaves it, as it is not empty" if place.holds else "--destroy removes it, too"
        yield f"{place.kind} {place.name} {_tagged(wanted)}: {how}"
    yield from unseen(found)


def kept_places(wanted: Wanted, found: Found) -> Iterator[str]:
    """Sentences on the buckets and vaults that the config does not name, and that are not empty."""
    for place in found.old_places:
        if place.holds:
            yield f"{place.kind} {place.name} {_tagged(wanted)}: it is not empty, and stays"


def _tagged(wanted: Wanted) -> str:
    return f"carries the tag {TAG}={wanted.name}, and this config does not use it"


def _of_before(wanted: Wanted, role: FoundRole) -> str:
    return (
        f"role {role.name} {_tagged(wanted)}: --destroy "
        "removes it with all the rest. If no other server uses it, remove it alone"
    )


def kept_by(role: FoundRole) -> str | None:
    """Why IAM does not delete a role; None if it does."""
    policies = _policies(role)
    if not policies:
        return None
    return (
        f"role {role.name}: it has {policies}, and IAM deletes no role that has policies; take them off, and "
        "run the command again"
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
    """Sentences on what could not be looked at."""
    for name in found.unseen:
        yield f"role {name} may be of a set-up: you may not see its tags (iam:GetRole)"
    yield from found.not_looked


def of_another_server(wanted: Wanted, found: Found) -> Iterator[str]:
    """Sentences on roles of this tag that let in another server than the config is for.

    Where the config has no ARNs yet, somebody has set up two servers by one name: the second would cut the
    first one off.
    """
    for role in wanted.roles[:1]:
        known = found.roles.get(role.name)
        if known is None or not known.is_ours or role.is_named or role.common_name is None:
            continue
        others = {one for one in subjects(known.trust) if one.startswith("CN=")} - {f"CN={role.common_name}"}
        if others:
            theirs = " and ".join(sorted(others))
            yield (
                f"role {role.name} of the set-up {wanted.name} is for {theirs}, and this config, which names "
                f"no role yet, for CN={role.common_name}: choose another name (--name), or put role_arn = "
                f'"{known.arn}" into the config'
            )


def cut_off(wanted: Wanted, found: Found) -> Iterator[str]:
    """Sentences on the vaults that this set-up is not for, and that have roles of it."""
    for vault, arns in wanted.others.items():
        ours = [role.name for role in found.roles.values() if role.is_ours and role.arn in arns]
        if ours:
            roles = " and ".join(sorted(ours))
            yield (
                f"vault {vault} of this config has {roles} of the same set-up, and would be cut off: leave "
                "--vault out, and all is removed"
            )


def subjects(trust: Document) -> set[str]:
    """The names and units that a trust policy asks for."""
    policy = json.loads(json.dumps(trust))
    statements = policy.get("Statement", [])
    return {
        f"{key.removeprefix(_SUBJECT)}={value}"
        for statement in (statements if isinstance(statements, list) else [statements])
        for keys in statement.get("Condition", {}).values()
        for key, values in keys.items()
        if key.startswith(_SUBJECT)
        for value in (values if isinstance(values, list) else [values])
    }


def other_arns(wanted: Wanted, found: Found) -> Iterator[str]:
    """Sentences on roles of the wanted names with other ARNs: a name is there once, whatever its path."""
    for role in wanted.roles:
        known = found.roles.get(role.name)
        if known is not None and known.is_ours and known.arn != role.arn:
            yield f"role {role.name} is {known.arn}, not {role.arn} as in the config: correct the config"
