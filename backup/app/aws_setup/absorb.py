"""The state of an account after a step, from the call and its answer; pure.

Nothing is looked up again. So a list that shows a change late does not lead to a second one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from backup.app.aws_setup.model import (
    Found,
    FoundAnchor,
    FoundCrl,
    FoundPlace,
    FoundProfile,
    FoundRole,
    Kind,
    Step,
    Verb,
)

Answer = Mapping[str, Any]


def after(found: Found, step: Step, answer: Answer) -> Found:
    """The findings, brought up to date with a step that was done."""
    if step.kind is Kind.ROLE:
        return _role(found, step, answer)
    if step.kind in (Kind.VAULT, Kind.BUCKET):
        left = tuple(one for one in found.old_places if (one.kind, one.name) != (step.kind, step.name))
        if left != found.old_places:
            return replace(found, old_places=left)
        return replace(found, place=_place(found.place, step))
    if step.kind is Kind.ANCHOR:
        return replace(found, anchors=_anchors(found.anchors, step, answer))
    if step.kind is Kind.CRL:
        return replace(found, crls=_crls(found.crls, step, answer))
    return replace(found, profiles=_profiles(found.profiles, step, answer))


def not_empty(found: Found, step: Step) -> Found:
    """The findings once AWS said that a bucket or vault is not to be deleted, as it holds something."""
    changed = tuple(
        replace(one, holds=True) if (one.kind, one.name) == (step.kind, step.name) else one
        for one in found.old_places
    )
    if changed != found.old_places:
        return replace(found, old_places=changed)
    return replace(found, place=found.place and replace(found.place, holds=True))


def anchor_of(detail: Answer) -> FoundAnchor:
    """A trust anchor as Roles Anywhere shows it."""
    return FoundAnchor(
        detail["trustAnchorId"],
        detail["trustAnchorArn"],
        detail["source"]["sourceData"].get("x509CertificateData", ""),
        detail["enabled"],
    )


def profile_of(detail: Answer) -> FoundProfile:
    """A profile as Roles Anywhere shows it."""
    return FoundProfile(
        detail["profileId"],
        detail["profileArn"],
        tuple(detail.get("roleArns", ())),
        detail.get("durationSeconds", 3600),
        detail.get("acceptRoleSessionName", False),
        detail["enabled"],
    )


def crl_of(detail: Answer) -> FoundCrl:
    """A revocation list as Roles Anywhere shows it."""
    data = detail["crlData"]
    text = data.decode("ascii", "replace") if isinstance(data, bytes) else str(data)
    return FoundCrl(detail["crlId"], detail["trustAnchorArn"], text, detail["enabled"])


def _anchors(known: tuple[FoundAnchor, ...], step: Step, answer: Answer) -> tuple[FoundAnchor, ...]:
    changed = anchor_of(answer["trustAnchor"])
    rest = tuple(one for one in known if one.id != changed.id)
    if step.verb is Verb.DELETE:
        return rest
    if rest == known:
        return (*known, changed)
    return tuple(changed if one.id == changed.id else one for one in known)


def _profiles(known: tuple[FoundProfile, ...], step: Step, answer: Answer) -> tuple[FoundProfile, ...]:
    changed = profile_of(answer["profile"])
    rest = tuple(one for one in known if one.id != changed.id)
    if step.verb is Verb.DELETE:
        return rest
    if rest == known:
        return (*known, changed)
    return tuple(changed if one.id == changed.id else one for one in known)


def _crls(known: tuple[FoundCrl, ...], step: Step, answer: Answer) -> tuple[FoundCrl, ...]:
    changed = crl_of(answer["crl"])
    rest = tuple(one for one in known if one.id != changed.id)
    return rest if step.verb is Verb.DELETE else (*rest, changed)


def _role(found: Found, step: Step, answer: Answer) -> Found:
    given, roles = step.parameters, dict(found.roles)
    if step.verb is Verb.DELETE:
        del roles[step.name]
        return replace(found, roles=roles)
    if step.operation == "create_role":
        trust = json.loads(given["AssumeRolePolicyDocument"])
        roles[step.name] = FoundRole(step.name, answer["Role"]["Arn"], trust, {}, is_ours=True)
        return replace(found, roles=roles)
    known = roles[step.name]
    if step.operation == "update_assume_role_policy":
        known = replace(known, trust=json.loads(given["PolicyDocument"]))
    elif step.operation == "put_role_policy":
        policy = json.loads(given["PolicyDocument"])
        known = replace(known, policies={**known.policies, given["PolicyName"]: policy})
    else:
        left = {name: one for name, one in known.policies.items() if name != given["PolicyName"]}
        known = replace(known, policies=left)
    roles[step.name] = known
    return replace(found, roles=roles)


_SETTINGS = {
    "put_public_access_block": ("block", "PublicAccessBlockConfiguration"),
    "put_bucket_policy": ("policy", "Policy"),
    "put_bucket_lifecycle_configuration": ("lifecycle", "LifecycleConfiguration"),
    "put_bucket_versioning": ("versioning", "VersioningConfiguration"),
}


def _place(known: FoundPlace | None, step: Step) -> FoundPlace | None:
    if step.verb is Verb.DELETE:
        return None
    if step.verb is Verb.MAKE:
        return FoundPlace(is_ours=step.kind is Kind.BUCKET, holds=False)
    known = known or FoundPlace(is_ours=True, holds=False)
    if step.operation == "add_tags_to_vault":
        return replace(known, is_ours=True)
    setting, member = _SETTINGS[step.operation]
    value = step.parameters[member]
    kept = json.loads(value) if setting == "policy" else value
    return replace(known, settings={**known.settings, setting: kept})
