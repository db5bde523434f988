"""A plan in words and money, for people and scripts; pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from textwrap import wrap as wrap_words

from backup.app.aws_setup.model import Found, Kind, Plan, Step, Verb, Wanted
from backup.app.aws_setup.wanted import Account
from backup.cost import Price

WIDTH = 80
wrap = partial(wrap_words, break_long_words=False, break_on_hyphens=False)
"""The lines of a sentence; no path or name is broken."""
_SIGNS = {Verb.MAKE: "+", Verb.CHANGE: "~", Verb.DELETE: "-"}
OUTSIDE_CA = (
    "A trust anchor for an authority outside AWS is also what an intruder would make to stay: common "
    "rule sets raise an alert when one is made. Tell whoever watches this account before you go on."
)


def lines_of(plan: Plan, *, width: int = WIDTH) -> Iterator[str]:
    """Each thing as a line with its sign, and below it what is done, step by step."""
    above: Step | None = None
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


def is_of_same(step: Step, after: Step) -> bool:
    """Whether a step goes on with the same thing: as one that was just made, or another change of it."""
    return (step.kind, step.name) == (after.kind, after.name) and after.verb in {step.verb, Verb.CHANGE}


def line_of(step: Step) -> str:
    """One step: its sign, kind and name."""
    return f"  {_SIGNS[step.verb]} {step.verb} {step.kind} {step.name}"


def summary(plan: Plan) -> str:
    """The numbers of things made, changed and deleted; what is made does not count as changed."""
    if not plan.steps:
        return "there is nothing to do"
    made = {(step.kind, step.name) for step in plan.steps if step.verb is Verb.MAKE}
    steps = [
        step for step in plan.steps if step.verb is not Verb.CHANGE or (step.kind, step.name) not in made
    ]
    counts = {verb: sum(step.verb is verb for step in steps) for verb in Verb}
    return ", ".join(f"{count} to {verb}" for verb, count in counts.items() if count)


def ended(plan: Plan, *, destroyed: bool) -> str:
    """How a set-up stands once its steps are done."""
    if plan.steps:
        return f"still {summary(plan)}"
    if destroyed:
        return "what carried the tag is gone" + (", but for what is named above" if plan.left else "")
    return "AWS is set up"


def warns_of_ca(plan: Plan) -> bool:
    """Whether the plan makes a trust anchor, of which the account's watchers should know."""
    return any(step.kind is Kind.ANCHOR and step.verb is Verb.MAKE for step in plan.steps)


def who_deletes(wanted: Wanted) -> str:
    """A sentence on who may delete in the vault by this set-up."""
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
    """A sentence on each vault, with its name where they differ."""
    if len(set(sentences.values())) == 1:
        return [next(iter(sentences.values()))]
    return [f"Vault {vault}: {sentence}" for vault, sentence in sentences.items()]


def money(prices: Mapping[str, Price | None], currency: str) -> Iterator[str]:
    """Sentences on money: a set-up is free; storing in its vaults costs so much."""
    for vault, price in prices.items():
        where = f" in vault {vault}" if len(prices) > 1 else ""
        if price is None:
            yield f"costs: the set-up nothing; what storing costs {where.strip() or 'here'} is not known"
        else:
            cost = f"{price.storage.normalize():f} {currency} a GB and month"
            yield f"costs: the set-up nothing; storing{where} {cost}"


def plan_document(plan: Plan, wanted: Wanted, account: Account) -> Mapping[str, object]:
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


def arns(found: Found) -> Mapping[str, str]:
    """The ARNs that belong into [roles_anywhere], as far as the things are there."""
    values = {}
    if found.anchors:
        values["trust_anchor_arn"] = found.anchors[0].arn
    if found.profiles:
        values["profile_arn"] = found.profiles[0].arn
    return values
