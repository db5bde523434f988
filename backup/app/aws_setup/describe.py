"""A plan as sentences, prices and JSON, with the resources that it does not touch; pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from textwrap import wrap as wrap_words

from backup.app.aws_setup.documents import TAG, Document
from backup.app.aws_setup.model import (
    POLICY,
    AwsAccount,
    FoundResources,
    FoundRole,
    Plan,
    PlannedCall,
    Resource,
    Verb,
    Wanted,
)
from backup.cost import Price

WIDTH = 80
wrap = partial(wrap_words, break_long_words=False, break_on_hyphens=False)
"""The lines of a sentence; no path or name is broken."""
_SUBJECT = "aws:PrincipalTag/x509Subject/"
_SIGNS = {Verb.MAKE: "+", Verb.CHANGE: "~", Verb.DELETE: "-"}
OUTSIDE_CA = (
    "A trust anchor for an authority outside AWS is also what an intruder would make to stay: common "
    "rule sets raise an alert when one is made. Tell whoever watches this account before you go on."
)


def lines_of(plan: Plan, *, width: int = WIDTH) -> Iterator[str]:
    """Return one line for each resource, with its sign, and its steps below."""
    above: PlannedCall | None = None
    for step in plan.steps:
        if above is None or not is_of_same(above, step):
            yield line_of(step)
        above = step
        yield from wrap(step.words, width, initial_indent="      ", subsequent_indent="      ")
    for obstacle in plan.obstacles:
        yield from wrap(f"! {obstacle}", width, subsequent_indent="  ")
    for left in plan.left:
        sentence, *commands = left.split("\n")
        yield from wrap(f"= {sentence}", width, subsequent_indent="  ")
        yield from (f"    {command}" for command in commands)  # whole, so that they can be copied


def is_of_same(step: PlannedCall, after: PlannedCall) -> bool:
    """Whether a step concerns the same resource as the step before it."""
    return (step.kind, step.name) == (after.kind, after.name) and after.verb in {step.verb, Verb.CHANGE}


def line_of(step: PlannedCall) -> str:
    """Return the line of one step: sign, verb, kind and name."""
    return f"  {_SIGNS[step.verb]} {step.verb} {step.kind} {step.name}"


def summary(plan: Plan) -> str:
    """Return the counts of resources made, changed and deleted; a new one does not count as changed."""
    if not plan.steps:
        return "there is nothing to do"
    made = {(step.kind, step.name) for step in plan.steps if step.verb is Verb.MAKE}
    steps = [
        step for step in plan.steps if step.verb is not Verb.CHANGE or (step.kind, step.name) not in made
    ]
    counts = {verb: sum(step.verb is verb for step in steps) for verb in Verb}
    return ", ".join(f"{count} to {verb}" for verb, count in counts.items() if count)


def ended(plan: Plan, *, destroyed: bool) -> str:
    """Return a sentence on the state of the set-up after its steps."""
    if plan.steps:
        return f"still {summary(plan)}"
    if destroyed:
        return "what carried the tag is gone" + (", but for what is named above" if plan.left else "")
    return "AWS is set up"


def warns_of_ca(plan: Plan) -> bool:
    """Whether the plan creates a trust anchor, which those who watch the account should know."""
    return any(step.kind is Resource.ANCHOR and step.verb is Verb.MAKE for step in plan.steps)


def who_deletes(wanted: Wanted) -> str:
    """Return a sentence on who may delete in the vault with this set-up."""
    first = wanted.roles[0]
    role = next((role for role in wanted.roles if role.arn == wanted.deletes_by), None)
    if role is None:
        return (
            "Nobody may delete: prunes of this server only condemn. `nightvault prune --delete-only` on "
            "another machine deletes (docs/who-deletes.md); --prune-subject CN lets a certificate delete."
        )
    if (role.common_name, role.unit) == (first.common_name, first.unit):
        return (
            f"Role {role.name} lets this server's own certificate delete: whoever takes the server over can "
            "delete its backups. --prune-subject CN of another certificate keeps that off it."
        )
    return f"Role {role.name} lets certificate {role.common_name} delete, and not this server's own."


def of_each(sentences: Mapping[str, str]) -> Sequence[str]:
    """Return one sentence if it is the same for all vaults, else one for each, with its name."""
    if len(set(sentences.values())) == 1:
        return [next(iter(sentences.values()))]
    return [f"Vault {vault}: {sentence}" for vault, sentence in sentences.items()]


def money(prices: Mapping[str, Price | None], currency: str) -> Iterator[str]:
    """Return sentences on costs: the set-up is free; storage in its vaults has a price."""
    for vault, price in prices.items():
        where = f" in vault {vault}" if len(prices) > 1 else ""
        if price is None:
            yield f"costs: the set-up nothing; what storing costs {where.strip() or 'here'} is not known"
        else:
            cost = f"{price.storage.normalize():f} {currency} a GB and month"
            yield f"costs: the set-up nothing; storing{where} {cost}"


def plan_document(plan: Plan, wanted: Wanted, account: AwsAccount) -> Mapping[str, object]:
    """A plan as JSON."""
    return {
        "name": wanted.name,
        "account": account.id,
        "caller": account.caller,
        "region": wanted.region,
        "steps": [
            {
                "verb": step.verb,
                "kind": step.kind,
                "name": step.name,
                "words": step.words,
                "call": f"{step.service}:{step.operation}",
            }
            for step in plan.steps
        ],
        "obstacles": list(plan.obstacles),
        "left": list(plan.left),
    }


def arns(found: FoundResources) -> Mapping[str, str]:
    """Return the ARNs for [roles_anywhere], of those resources that exist."""
    values = {}
    if found.anchors:
        values["trust_anchor_arn"] = found.anchors[0].arn
    if found.profiles:
        values["profile_arn"] = found.profiles[0].arn
    return values


def leftovers(wanted: Wanted, found: FoundResources) -> Iterator[str]:
    """Return sentences on resources that the set-up does not need and does not touch."""
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


def kept_places(wanted: Wanted, found: FoundResources) -> Iterator[str]:
    """Return sentences on non-empty buckets and vaults with our tag that the config does not name."""
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
    """Return a sentence on why IAM will not delete a role; None if it will."""
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
    """Return the commands that remove from a role what no set-up put there."""
    for name in role.others:
        yield f"aws iam delete-role-policy --role-name {role.name} --policy-name {name}"
    for arn in role.attached:
        yield f"aws iam detach-role-policy --role-name {role.name} --policy-arn {arn}"


def _deletion(role: FoundRole) -> Iterator[str]:
    if POLICY in role.policies:
        yield f"aws iam delete-role-policy --role-name {role.name} --policy-name {POLICY}"
    yield f"aws iam delete-role --role-name {role.name}"


def unseen(found: FoundResources) -> Iterator[str]:
    """Return sentences on resources that could not be read."""
    for name in found.unseen:
        yield f"role {name} may be of a set-up: you may not see its tags (iam:GetRole)"
    yield from found.not_looked


def of_another_server(wanted: Wanted, found: FoundResources) -> Iterator[str]:
    """Return sentences on roles with our tag that let in another server than the config's.

    Where the config has no ARNs yet, two servers were set up under one name: the second would lock the first
    one out.
    """
    for role in wanted.roles[:1]:
        known = found.roles.get(role.name)
        if known is None or not known.is_ours or role.is_named or role.common_name is None:
            continue
        others = {subject for subject in subjects(known.trust) if subject.startswith("CN=")} - {
            f"CN={role.common_name}"
        }
        if others:
            theirs = " and ".join(sorted(others))
            yield (
                f"role {role.name} of the set-up {wanted.name} is for {theirs}, and this config, which names "
                f"no role yet, for CN={role.common_name}: choose another name (--name), or put role_arn = "
                f'"{known.arn}" into the config'
            )


def cut_off(wanted: Wanted, found: FoundResources) -> Iterator[str]:
    """Return sentences on other vaults of the config that still use roles of this set-up."""
    for vault, arns in wanted.others.items():
        ours = [role.name for role in found.roles.values() if role.is_ours and role.arn in arns]
        if ours:
            roles = " and ".join(sorted(ours))
            yield (
                f"vault {vault} of this config has {roles} of the same set-up, and would be cut off: leave "
                "--vault out, and all is removed"
            )


def subjects(trust: Document) -> set[str]:
    """Return the common names and units that a trust policy requires."""
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


def other_arns(wanted: Wanted, found: FoundResources) -> Iterator[str]:
    """Return sentences on our roles whose ARN differs from the config's, for instance by its path."""
    for role in wanted.roles:
        known = found.roles.get(role.name)
        if known is not None and known.is_ours and known.arn != role.arn:
            yield f"role {role.name} is {known.arn}, not {role.arn} as in the config: correct the config"
