"""Plans the steps from the resources found to those wanted, or to none; pure.

Each step is one call. After an interruption, what was made is found by its tag, and only the rest is planned.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from backup.app.aws_setup.ca_input import names_in
from backup.app.aws_setup.describe import (
    commands,
    cut_off,
    kept_by,
    kept_places,
    leftovers,
    of_another_server,
    other_arns,
    subjects,
    unseen,
)
from backup.app.aws_setup.documents import TAG, Document
from backup.app.aws_setup.model import (
    DESCRIPTION,
    POLICY,
    UNKNOWN_ANCHOR,
    FoundPlace,
    FoundResources,
    FoundRole,
    Plan,
    PlannedCall,
    Resource,
    Verb,
    Wanted,
    WantedBucket,
    WantedRole,
    in_bucket,
    same_document,
)

MOST_POLICY = 10_240
"""Characters of a role's inline policies; IAM counts no blanks."""
BLOCKED: Mapping[str, bool] = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
LIFECYCLE: Mapping[str, Any] = {
    "Rules": [
        {
            "ID": "end-incomplete-uploads",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        }
    ]
}
HOME = "us-east-1"
"""The region of buckets that name none."""


def to_make(wanted: Wanted, found: FoundResources) -> Plan:
    """Return the plan that creates or corrects a set-up; without steps if all is as wanted."""
    obstacles = [*other_arns(wanted, found), *of_another_server(wanted, found)]
    obstacles += [
        f"role {role.name} is there and does not carry the tag {TAG}={wanted.name}: "
        "choose another name (--name), or delete it"
        for role in wanted.roles
        if role.name in found.roles and not found.roles[role.name].is_ours
    ]
    steps = [
        *_steps_of_place(wanted, found.place),
        *_anchor(wanted, found),
        *_crl(wanted, found),
        *(step for role in wanted.roles for step in _role(wanted, role, found)),
        *_profile(wanted, found),
    ]
    obstacles += [
        f"vault {other} of this config has roles, too: [roles_anywhere] is for all vaults of a config, and "
        f"this set-up would cut {other} off; leave --vault out, and it is for all of them"
        for other in wanted.others
    ]
    obstacles += _too_long(wanted)
    obstacles += _place_obstacles(wanted, found.place)
    return Plan(tuple(steps), tuple(obstacles), tuple(leftovers(wanted, found)))


def _too_long(wanted: Wanted) -> Iterator[str]:
    for role in wanted.roles:
        length = len(json.dumps(role.policy, separators=(",", ":")))
        if length > MOST_POLICY:
            yield (
                f"the policy of role {role.name} has {length:,} characters, and IAM takes {MOST_POLICY:,}: "
                "give some vaults roles of their own (role_arn, restore_role_arn, …)"
            )


def _anchor(wanted: Wanted, found: FoundResources) -> Iterator[PlannedCall]:
    source = {
        "sourceType": "CERTIFICATE_BUNDLE",
        "sourceData": {"x509CertificateData": wanted.certificates},
    }
    for extra in found.anchors[1:]:
        yield from _delete_anchor(wanted.name, extra.id, enabled=extra.enabled)
    if not found.anchors:
        made = {"name": wanted.name, "source": source, "enabled": True, "tags": lower_tags(wanted.name)}
        words = "lets in certificates of your authority"
        yield _anywhere(Verb.MAKE, Resource.ANCHOR, wanted.name, words, "create_trust_anchor", made)
        return
    anchor = found.anchors[0]
    number = {"trustAnchorId": anchor.id}
    if anchor.certificates.split() != wanted.certificates.split():
        words = _who_signs(anchor.certificates, wanted.certificates)
        change = {**number, "source": source}
        yield _anywhere(Verb.CHANGE, Resource.ANCHOR, wanted.name, words, "update_trust_anchor", change)
    if not anchor.enabled:
        yield _anywhere(
            Verb.CHANGE, Resource.ANCHOR, wanted.name, "is enabled", "enable_trust_anchor", number
        )


def _who_signs(before: str, now: str) -> str:
    """Whose certificates a trust anchor lets in, and whose no more."""
    gone = [name for name in names_in(before) if name not in names_in(now)]
    more = f"; no more of {' and '.join(gone)}" if gone else ""
    return f"lets in certificates of {' and '.join(names_in(now))}{more}; its ARN stays"


def _crl(wanted: Wanted, found: FoundResources) -> Iterator[PlannedCall]:
    if wanted.crl is None:
        return
    anchor = found.anchor_arn or UNKNOWN_ANCHOR
    known = next((crl for crl in found.crls if crl.anchor_arn == anchor), None)
    if known is None:
        made = {
            "name": wanted.name,
            "crlData": wanted.crl.encode(),
            "trustAnchorArn": anchor,
            "enabled": True,
            "tags": lower_tags(wanted.name),
        }
        words = "certificates in it are let in no more"
        yield _anywhere(Verb.MAKE, Resource.CRL, wanted.name, words, "import_crl", made)
        return
    if known.text.split() != wanted.crl.split():
        change = {"crlId": known.id, "crlData": wanted.crl.encode()}
        yield _anywhere(Verb.CHANGE, Resource.CRL, wanted.name, "becomes the given one", "update_crl", change)
    if not known.enabled:
        yield _anywhere(
            Verb.CHANGE, Resource.CRL, wanted.name, "is enabled", "enable_crl", {"crlId": known.id}
        )


def _role(wanted: Wanted, role: WantedRole, found: FoundResources) -> Iterator[PlannedCall]:
    known, named = found.roles.get(role.name), {"RoleName": role.name}
    trust = wanted.trust_of(role, found.anchor_arn or UNKNOWN_ANCHOR)
    if known is None:
        subject = role.common_name or f"unit {role.unit}"
        made = {
            **named,
            "Path": role.path,
            "AssumeRolePolicyDocument": json.dumps(trust),
            "Description": DESCRIPTION + role.purpose,
            "Tags": upper_tags(wanted.name),
        }
        words = f"for {role.purpose}; only by this trust anchor, only for {subject}"
        yield _iam(Verb.MAKE, role.name, words, "create_role", made)
    elif not same_document(known.trust, trust):
        change = {**named, "PolicyDocument": json.dumps(trust)}
        words = _who(known.trust, trust)
        yield _iam(Verb.CHANGE, role.name, words, "update_assume_role_policy", change)
    policies: Mapping[str, Document] = {} if known is None else known.policies
    if not same_document(policies.get(POLICY), role.policy):
        change = {**named, "PolicyName": POLICY, "PolicyDocument": json.dumps(role.policy)}
        words = "may do: " + ", ".join(short_actions(role.policy))
        yield _iam(Verb.CHANGE, role.name, words, "put_role_policy", change)


def _who(before: Document, now: Document) -> str:
    """Words on who may assume a role now, and who no more, as another server may have had the same name."""
    gone = subjects(before) - subjects(now)
    more = f"; no more {', '.join(sorted(gone))}" if gone else ""
    return f"who may assume it is set right: {', '.join(sorted(subjects(now)))}{more}"


def short_actions(policy: Document) -> list[str]:
    """Return the actions of a policy without their service, sorted, each once."""
    text = json.loads(json.dumps(policy))
    actions = [action for statement in text["Statement"] for action in statement["Action"]]
    return list(dict.fromkeys(action.partition(":")[2] for action in actions))


def _profile(wanted: Wanted, found: FoundResources) -> Iterator[PlannedCall]:
    arns = sorted(role.arn for role in wanted.roles)
    values = {
        "roleArns": arns,
        "durationSeconds": wanted.seconds,
        "acceptRoleSessionName": wanted.takes_session_names,
    }
    for extra in found.profiles[1:]:
        yield from _delete_profile(wanted.name, extra.id, enabled=extra.enabled)
    if not found.profiles:
        made = {"name": wanted.name, **values, "enabled": True, "tags": lower_tags(wanted.name)}
        words = f"these {len(arns)} roles, sessions of {wanted.seconds} s"
        yield _anywhere(Verb.MAKE, Resource.PROFILE, wanted.name, words, "create_profile", made)
        return
    known = found.profiles[0]
    number = {"profileId": known.id}
    is_now = (sorted(known.role_arns), known.seconds, known.takes_session_names)
    if is_now != (arns, wanted.seconds, wanted.takes_session_names):
        change = {**number, **values}
        words = f"becomes: {len(arns)} roles, sessions of {wanted.seconds} s"
        yield _anywhere(Verb.CHANGE, Resource.PROFILE, wanted.name, words, "update_profile", change)
    if not known.enabled:
        yield _anywhere(Verb.CHANGE, Resource.PROFILE, wanted.name, "is enabled", "enable_profile", number)


def to_destroy(wanted: Wanted, found: FoundResources) -> Plan:
    """Return the plan that removes everything with the tag; vaults and buckets that are not empty stay."""
    if obstacles := (*of_another_server(wanted, found), *cut_off(wanted, found)):
        return Plan((), obstacles)
    name, place, left = wanted.name, found.place, [*unseen(found), *kept_places(wanted, found)]
    steps = [
        step
        for profile in found.profiles
        for step in _delete_profile(name, profile.id, enabled=profile.enabled)
    ]
    for crl in found.crls:
        words = "is deleted"
        steps.append(_anywhere(Verb.DELETE, Resource.CRL, name, words, "delete_crl", {"crlId": crl.id}))
    steps += [
        step for anchor in found.anchors for step in _delete_anchor(name, anchor.id, enabled=anchor.enabled)
    ]
    for role in found.roles.values():
        if not role.is_ours:
            left.append(f"role {role.name}: it does not carry the tag {TAG}={name}")
        elif kept := kept_by(role):
            left.append("\n".join([kept, *commands(role)]))
        steps += _delete_role(role)
    where = f"bucket {wanted.bucket.name}" if wanted.bucket else f"vault {wanted.vault}"
    is_ours = place is not None and (place.is_ours or _was_cut_short(wanted, place))
    if place is not None and not is_ours:
        why = "it belongs to another account" if place.is_strangers else "it does not carry the tag"
        left.append(f"{where}: {why}" + ("" if place.is_strangers else f" {TAG}={name}"))
    elif place is not None and place.holds:
        counts = " (old versions and delete markers count)" if wanted.bucket else ""
        counts = counts or ", or was written to since its last inventory"
        left.append(f"{where}: it is not empty{counts}; what is stored there is never deleted by a set-up")
    elif place is not None:
        kind = Resource.BUCKET if wanted.bucket else Resource.VAULT
        there = wanted.bucket.name if wanted.bucket else str(wanted.vault)
        steps.append(_delete_place(kind, there, wanted.bucket.owner if wanted.bucket else ""))
    own = wanted.setup.account
    steps += [_delete_place(place.kind, place.name, own) for place in found.old_places if not place.holds]
    return Plan(tuple(steps), left=tuple(left))


def _was_cut_short(wanted: Wanted, place: FoundPlace) -> bool:
    """Whether a place without any set-up's tag is the empty vault that this one was about to make."""
    return wanted.is_noted and not place.is_others and not place.holds


def _delete_anchor(name: str, number: str, *, enabled: bool) -> Iterator[PlannedCall]:
    given = {"trustAnchorId": number}
    if enabled:
        words = "is disabled: nobody gets in any more"
        yield _anywhere(Verb.CHANGE, Resource.ANCHOR, name, words, "disable_trust_anchor", given)
    yield _anywhere(Verb.DELETE, Resource.ANCHOR, name, "is deleted", "delete_trust_anchor", given)


def _delete_profile(name: str, number: str, *, enabled: bool) -> Iterator[PlannedCall]:
    given = {"profileId": number}
    if enabled:
        words = "is disabled: no new sessions"
        yield _anywhere(Verb.CHANGE, Resource.PROFILE, name, words, "disable_profile", given)
    yield _anywhere(Verb.DELETE, Resource.PROFILE, name, "is deleted", "delete_profile", given)


def _delete_role(role: FoundRole) -> Iterator[PlannedCall]:
    """Take our policy away, and the role, if it is ours and has no other policy."""
    if role.is_ours and POLICY in role.policies:
        given = {"RoleName": role.name, "PolicyName": POLICY}
        yield _iam(Verb.CHANGE, role.name, f"loses its policy {POLICY}", "delete_role_policy", given)
    if role.is_ours and not kept_by(role):
        yield _iam(Verb.DELETE, role.name, "is deleted", "delete_role", {"RoleName": role.name})


def _delete_place(kind: Resource, name: str, owner: str) -> PlannedCall:
    words = "is empty, and deleted"
    if kind is Resource.BUCKET:
        return PlannedCall(Verb.DELETE, kind, name, words, "s3", "delete_bucket", in_bucket(name, owner))
    given = {"accountId": "-", "vaultName": name}
    return PlannedCall(Verb.DELETE, kind, name, words, "glacier", "delete_vault", given)


def lower_tags(name: str) -> list[dict[str, str]]:
    """Return our tag in the form that Roles Anywhere takes."""
    return [{"key": TAG, "value": name}]


def upper_tags(name: str) -> list[dict[str, str]]:
    """Return our tag in the form that IAM and S3 take."""
    return [{"Key": TAG, "Value": name}]


def _anywhere(
    verb: Verb, kind: Resource, name: str, words: str, operation: str, parameters: Mapping[str, Any]
) -> PlannedCall:
    return PlannedCall(verb, kind, name, words, "rolesanywhere", operation, parameters)


def _iam(verb: Verb, name: str, words: str, operation: str, parameters: Mapping[str, Any]) -> PlannedCall:
    return PlannedCall(verb, Resource.ROLE, name, words, "iam", operation, parameters)


def _steps_of_place(wanted: Wanted, found: FoundPlace | None) -> Iterator[PlannedCall]:
    """Yield the steps that make the bucket or vault; an existing one that is not ours is used as it is."""
    if wanted.bucket is not None:
        yield from _bucket(wanted.name, wanted.bucket, found)
    elif wanted.vault is not None:
        yield from _vault(wanted.name, wanted.vault, found)


def _place_obstacles(wanted: Wanted, found: FoundPlace | None) -> Iterator[str]:
    """Yield what prevents the bucket or vault from being made."""
    bucket = wanted.bucket
    if bucket is not None and found is not None and found.is_strangers:
        yield (
            f"bucket {bucket.name} belongs to another account than {bucket.owner}: choose another name, or "
            "set account_id of the vault to that account if it is the right one"
        )
    elif bucket is not None and found is None and bucket.owner != wanted.setup.account:
        yield (
            f"bucket {bucket.name} is to be in account {bucket.owner} (account_id), and your credentials are "
            f"of {wanted.setup.account}: make it with credentials of {bucket.owner}, or correct account_id"
        )
    if wanted.bucket is not None and found is not None and found.settings.get("region"):
        there = found.settings["region"]
        if there != wanted.bucket.region:
            yield f"bucket {wanted.bucket.name} is in {there}, not in {wanted.bucket.region}: set region"


def _vault(name: str, vault: str, found: FoundPlace | None) -> Iterator[PlannedCall]:
    """A vault takes its tag only once it is there; an empty one without a tag is taken for one cut short."""
    given = {"accountId": "-", "vaultName": vault}
    if found is None:
        yield PlannedCall(
            Verb.MAKE, Resource.VAULT, vault, "keeps the archives", "glacier", "create_vault", given
        )
    if found is None or not (found.is_ours or found.holds or found.is_others):
        change = {**given, "Tags": {TAG: name}}
        yield PlannedCall(
            Verb.CHANGE, Resource.VAULT, vault, f"gets the tag {TAG}", "glacier", "add_tags_to_vault", change
        )


def _bucket(name: str, bucket: WantedBucket, found: FoundPlace | None) -> Iterator[PlannedCall]:
    if found is None:
        made: dict[str, Any] = {"Tags": [{"Key": TAG, "Value": name}]}
        if bucket.region != HOME:
            made["LocationConstraint"] = bucket.region
        given: dict[str, Any] = {"Bucket": bucket.name, "CreateBucketConfiguration": made}
        if bucket.is_reserved:
            given["BucketNamespace"] = "account-regional"
        words = "keeps the archives" + ("; nobody else can take its name" if bucket.is_reserved else "")
        yield PlannedCall(Verb.MAKE, Resource.BUCKET, bucket.name, words, "s3", "create_bucket", given)
    elif not found.is_ours:
        return
    settings: Mapping[str, Any] = {} if found is None else found.settings
    for setting, value, words, operation, member in _settings(bucket):
        if not same_document(settings.get(setting), value):
            shown = json.dumps(value) if setting == "policy" else value
            given = {**bucket.where, member: shown}
            yield PlannedCall(Verb.CHANGE, Resource.BUCKET, bucket.name, words, "s3", operation, given)


def _settings(bucket: WantedBucket) -> Iterator[tuple[str, Any, str, str, str]]:
    """Each setting: its name among what was found, its value, words, operation, and parameter."""
    words = "nobody outside the account can be let in"
    member = "PublicAccessBlockConfiguration"
    yield "block", dict(BLOCKED), words, "put_public_access_block", member
    plain = ", no plain HTTP" if "NothingInTheClear" in json.dumps(bucket.policy) else ""
    words = f"its policy: no other class, nothing overwritten{plain}"
    yield "policy", bucket.policy, words, "put_bucket_policy", "Policy"
    words = "uploads that were given up are ended after 7 days"
    operation = "put_bucket_lifecycle_configuration"
    yield "lifecycle", dict(LIFECYCLE), words, operation, "LifecycleConfiguration"
    if bucket.versioning:
        words = "keeps versions of what is deleted or replaced"
        yield "versioning", {"Status": "Enabled"}, words, "put_bucket_versioning", "VersioningConfiguration"
    if bucket.locks:
        words = "its objects can be locked; that cannot be switched off again"
        operation, member = "put_object_lock_configuration", "ObjectLockConfiguration"
        yield "object lock", {"ObjectLockEnabled": "Enabled"}, words, operation, member
