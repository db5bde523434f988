"""A set-up as code for other tools: Terraform, CloudFormation, a script of AWS CLI commands; pure.

The script has the steps of `setup aws --apply`; the other two are made from the same `Wanted`. A replaced
trust anchor would get another ARN, which no role trusts, so both templates forbid its replacement. Its
notifications are left to AWS, as Terraform's provider takes their defaults for a change.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from backup.app.aws_setup.diff import BLOCKED, LIFECYCLE, to_make
from backup.app.aws_setup.documents import TAG, Document
from backup.app.aws_setup.model import (
    DESCRIPTION,
    POLICY,
    UNKNOWN_ANCHOR,
    FoundResources,
    PlannedCall,
    Resource,
    Verb,
    Wanted,
    WantedRole,
    in_bucket,
)
from backup.errors import UsageError

_ANCHOR_OF_TERRAFORM = "aws_rolesanywhere_trust_anchor.nightvault.arn"
_ANCHOR_OF_FORMATION = {"Fn::GetAtt": ["TrustAnchor", "TrustAnchorArn"]}
_DAYS = LIFECYCLE["Rules"][0]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]


def terraform(*parts: Wanted) -> Mapping[str, str]:
    """The files of a Terraform module, by their names; `parts` are the vaults of one set-up. `UsageError`."""
    wanted = parts[0]
    _require_one_region(parts)
    labels = _labels(wanted)
    files = {"main.tf": "\n".join(_blocks(parts)), "ca.pem": wanted.certificates}
    for role in wanted.roles:
        files[f"{labels[role.name]}.json"] = _json(role.policy)
        files[f"{labels[role.name]}-trust.json"] = _json(wanted.trust_of(role, UNKNOWN_ANCHOR))
    for number, part in enumerate(_with_places(parts), 1):
        if part.bucket is not None:
            files[f"bucket{_number(number)}.json"] = _json(part.bucket.policy)
    return files


def _labels(wanted: Wanted) -> Mapping[str, str]:
    """The roles' names in Terraform and in file names: their purposes, numbered where several have one."""
    found: dict[str, str] = {}
    for role in wanted.roles:
        label = role.purpose.replace(" ", "_")
        number = 1
        while f"{label}{_number(number)}" in found.values():
            number += 1
        found[role.name] = f"{label}{_number(number)}"
    return found


def _number(number: int) -> str:
    """The suffix that keeps names apart: "" for the first, a number for the next."""
    return "" if number == 1 else f"_{number}"


def _with_places(parts: Sequence[Wanted]) -> Sequence[Wanted]:
    """The parts, one for each vault or bucket: several may be in one bucket."""
    places: dict[tuple[str | None, str | None], Wanted] = {}
    for part in parts:
        places.setdefault((part.vault, part.bucket.name if part.bucket else None), part)
    return list(places.values())


def _require_one_region(parts: Sequence[Wanted]) -> None:
    for part in parts:
        if part.setup.region != part.region:
            place = f"bucket {part.bucket.name}" if part.bucket else f"vault {part.vault}"
            raise UsageError(
                f"{place} is to be in {part.setup.region}, and trust anchor and profile in {part.region}: "
                "Terraform and CloudFormation make all in one region",
                advice="`nightvault setup aws --apply` and `setup export --cli` make it in several",
            )


def _json(document: Document) -> str:
    return json.dumps(document, indent=2) + "\n"


def _blocks(parts: Sequence[Wanted]) -> Iterator[str]:
    wanted = parts[0]
    tags = f"  tags = {{ {_text(TAG)} = {_text(wanted.name)} }}"
    yield f"""\
# Made by `nightvault setup export --terraform`; `nightvault setup aws --apply` does the same.
# The provider's region is {wanted.region}.

resource "aws_rolesanywhere_trust_anchor" "nightvault" {{
  name    = {_text(wanted.name)}
  enabled = true
  source {{
    source_type = "CERTIFICATE_BUNDLE"
    source_data {{
      x509_certificate_data = file("${{path.module}}/ca.pem")
    }}
  }}
{tags}
  lifecycle {{
    prevent_destroy = true # another trust anchor has another ARN, which no role lets in
    ignore_changes  = [notification_settings]
  }}
}}
"""
    labels = _labels(wanted)
    for role in wanted.roles:
        yield _role_blocks(role, labels[role.name], tags)
    roles = ", ".join(f"aws_iam_role.{name}.arn" for name in labels.values())
    yield f"""\
resource "aws_rolesanywhere_profile" "nightvault" {{
  name                     = {_text(wanted.name)}
  enabled                  = true
  duration_seconds         = {wanted.seconds}
  accept_role_session_name = {json.dumps(wanted.takes_session_names)}
  role_arns                = [{roles}]
{tags}
}}
"""
    for number, part in enumerate(_with_places(parts), 1):
        yield from _place_blocks(part, _number(number), tags)


def _role_blocks(role: WantedRole, name: str, tags: str) -> str:
    trust = f'replace(file("${{path.module}}/{name}-trust.json"), "{UNKNOWN_ANCHOR}", {_ANCHOR_OF_TERRAFORM})'
    return f"""\
resource "aws_iam_role" "{name}" {{
  name               = {_text(role.name)}
  path               = {_text(role.path)}
  description        = {_text(DESCRIPTION + role.purpose)}
  assume_role_policy = {trust}
{tags}
}}

resource "aws_iam_role_policy" "{name}" {{
  name   = "{POLICY}"
  role   = aws_iam_role.{name}.id
  policy = file("${{path.module}}/{name}.json")
}}
"""


def _place_blocks(wanted: Wanted, end: str, tags: str) -> Iterator[str]:
    keep = "  lifecycle {\n    prevent_destroy = true\n  }"
    if wanted.bucket is None:
        yield f"""\
resource "aws_glacier_vault" "nightvault{end}" {{
  name = {_text(str(wanted.vault))}
{tags}
{keep}
}}
"""
        return
    blocked = "\n".join(f"  {_snake(name)} = {json.dumps(value)}" for name, value in BLOCKED.items())
    yield f"""\
{_NAMESPACE if wanted.bucket.is_reserved else ""}\
resource "aws_s3_bucket" "nightvault{end}" {{
  bucket = {_text(wanted.bucket.name)}
{tags}
{keep}
}}

resource "aws_s3_bucket_public_access_block" "nightvault{end}" {{
  bucket = aws_s3_bucket.nightvault{end}.id
{blocked}
}}

resource "aws_s3_bucket_policy" "nightvault{end}" {{
  bucket = aws_s3_bucket.nightvault{end}.id
  policy = file("${{path.module}}/bucket{end}.json")
}}

resource "aws_s3_bucket_lifecycle_configuration" "nightvault{end}" {{
  bucket = aws_s3_bucket.nightvault{end}.id
  rule {{
    id     = "end-incomplete-uploads"
    status = "Enabled"
    filter {{
      prefix = ""
    }}
    abort_incomplete_multipart_upload {{
      days_after_initiation = {_DAYS}
    }}
  }}
}}
"""
    if wanted.bucket.versioning:
        yield f"""\
resource "aws_s3_bucket_versioning" "nightvault{end}" {{
  bucket = aws_s3_bucket.nightvault{end}.id
  versioning_configuration {{
    status = "Enabled"
  }}
}}
"""
    if wanted.bucket.locks:
        yield f"""\
resource "aws_s3_bucket_object_lock_configuration" "nightvault{end}" {{
  bucket     = aws_s3_bucket.nightvault{end}.id
  depends_on = [aws_s3_bucket_versioning.nightvault{end}]
}}
"""


_NAMESPACE = """\
# A name that ends in -an is made in the namespace of one account and region (CreateBucket: BucketNamespace).
# If your provider cannot ask for it, `nightvault setup aws --apply` can: import the bucket then.
"""


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


def _text(text: str) -> str:
    """A text of HCL: as JSON writes it, without interpolation."""
    return json.dumps(text).replace("${", "$${").replace("%{", "%%{")


def cloudformation(*parts: Wanted) -> Mapping[str, Any]:
    """The template. CloudFormation makes no Glacier vaults: `nightvault init` does. `UsageError`."""
    wanted = parts[0]
    _require_one_region([part for part in parts if part.bucket is not None])
    tags = [{"Key": TAG, "Value": wanted.name}]
    source = {
        "SourceType": "CERTIFICATE_BUNDLE",
        "SourceData": {"X509CertificateData": wanted.certificates},
    }
    anchor = {"Name": wanted.name, "Enabled": True, "Source": source, "Tags": tags}
    resources: dict[str, Any] = {"TrustAnchor": _kept("AWS::RolesAnywhere::TrustAnchor", anchor)}
    names = {
        name: "".join(word.title() for word in label.split("_") if not word.isdigit())
        + f"Role{''.join(word for word in label.split('_') if word.isdigit())}"
        for name, label in _labels(wanted).items()
    }
    for role in wanted.roles:
        resources[names[role.name]] = {
            "Type": "AWS::IAM::Role",
            "Properties": _role_properties(wanted, role, tags),
        }
    profile = {
        "Name": wanted.name,
        "Enabled": True,
        "DurationSeconds": wanted.seconds,
        "AcceptRoleSessionName": wanted.takes_session_names,
        "RoleArns": [{"Fn::GetAtt": [name, "Arn"]} for name in names.values()],
        "Tags": tags,
    }
    resources["Profile"] = {"Type": "AWS::RolesAnywhere::Profile", "Properties": profile}
    buckets = [part for part in _with_places(parts) if part.bucket is not None]
    for number, part in enumerate(buckets, 1):
        resources |= _bucket_resources(part, "" if number == 1 else str(number), tags)
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Made by nightvault setup export --cloudformation",
        "Resources": resources,
        "Outputs": {
            "TrustAnchorArn": {"Value": _ANCHOR_OF_FORMATION},
            "ProfileArn": {"Value": {"Fn::GetAtt": ["Profile", "ProfileArn"]}},
        },
    }


def _kept(kind: str, properties: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "Type": kind,
        "DeletionPolicy": "Retain",
        "UpdateReplacePolicy": "Retain",
        "Properties": properties,
    }


def _role_properties(wanted: Wanted, role: WantedRole, tags: list[dict[str, str]]) -> Mapping[str, Any]:
    trust = json.loads(json.dumps(wanted.trust_of(role, UNKNOWN_ANCHOR)))
    trust["Statement"][0]["Condition"]["ArnEquals"]["aws:SourceArn"] = _ANCHOR_OF_FORMATION
    return {
        "RoleName": role.name,
        "Path": role.path,
        "Description": DESCRIPTION + role.purpose,
        "AssumeRolePolicyDocument": trust,
        "Policies": [{"PolicyName": POLICY, "PolicyDocument": role.policy}],
        "Tags": tags,
    }


def _bucket_resources(wanted: Wanted, end: str, tags: list[dict[str, str]]) -> Mapping[str, Any]:
    bucket = wanted.bucket
    assert bucket is not None  # noqa: S101
    rule = {
        "Id": "end-incomplete-uploads",
        "Status": "Enabled",
        "Prefix": "",
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _DAYS},
    }
    properties: dict[str, Any] = {
        "BucketName": bucket.name,
        "PublicAccessBlockConfiguration": dict(BLOCKED),
        "LifecycleConfiguration": {"Rules": [rule]},
        "Tags": tags,
    }
    if bucket.versioning:
        properties["VersioningConfiguration"] = {"Status": "Enabled"}
    if bucket.locks:
        properties["ObjectLockEnabled"] = True
    policy = {"Bucket": {"Ref": f"Bucket{end}"}, "PolicyDocument": bucket.policy}
    return {
        f"Bucket{end}": _kept("AWS::S3::Bucket", properties),
        f"BucketPolicy{end}": {"Type": "AWS::S3::BucketPolicy", "Properties": policy},
    }


_SCRIPT = """\
#!/usr/bin/env bash
# Made by `nightvault setup export --cli`: the calls that `nightvault setup aws --apply` makes, for an account
# in which nothing of it is there yet. Run it once: a second time it would make things twice.
set -euo pipefail
export AWS_DEFAULT_REGION=@REGION@ AWS_PAGER=

anchor=TRUST-ANCHOR-ARN
call() { # service, operation, parameters as JSON, further options
  aws "$1" "$2" --cli-input-json "${3//TRUST-ANCHOR-ARN/$anchor}" "${@:4}"
}
"""


_NAMESPACE_CHECK = """\
known=$(aws s3api create-bucket --generate-cli-skeleton input)
if [[ $known != *BucketNamespace* ]]; then
  echo "this AWS CLI cannot make a bucket in the namespace of an account, as $(aws --version) is too old:" >&2
  echo "take one of November 2025 or later, or give nightvault setup aws --apply; nothing was made" >&2
  exit 1
fi
"""

_TAGS_CHECK = """\
known=$(aws s3api create-bucket --generate-cli-skeleton input)
"""


def script(*parts: Wanted) -> str:
    """A script for bash and the AWS CLI; the ARNs for the config are printed at its end.

    A CLI that does not know the namespace of a bucket's name is refused before anything is made; one that
    does not know a new bucket's tags gives them by a second call.
    """
    wanted, done = parts[0], list[PlannedCall]()
    texts = [_SCRIPT.replace("@REGION@", shlex.quote(wanted.region))]
    buckets = [part.bucket for part in parts if part.bucket is not None]
    if any(bucket.is_reserved for bucket in buckets):
        texts.append(_NAMESPACE_CHECK)
    elif buckets:
        texts.append(_TAGS_CHECK)
    for part in parts:
        for step in to_make(part, FoundResources()).steps:
            if step not in done:
                done.append(step)
                region = part.setup.region if step.service in ("s3", "glacier") else wanted.region
                texts.append(_command(step, wanted.setup.account, "" if region == wanted.region else region))
    texts.append('echo "trust_anchor_arn = \\"$anchor\\""\necho "profile_arn = \\"$profile\\""\n')
    return "\n".join(texts)


def _command(step: PlannedCall, account: str, region: str) -> str:
    service = "s3api" if step.service == "s3" else step.service
    more = f" --region {shlex.quote(region)}" if region else ""
    call = _call(service, step.operation, step.parameters) + more
    words = f"# {step.verb} {step.kind} {step.name}: {step.words}\n"
    if step.operation == "create_bucket" and "BucketNamespace" not in step.parameters:
        two = _in_two_calls(step, account, more)
        return f"{words}if [[ $known == *Tags* ]]; then\n{call} > /dev/null\nelse\n{two}fi\n"
    if step.verb is Verb.MAKE and step.kind in (Resource.ANCHOR, Resource.PROFILE):
        name, member = ("anchor", "trustAnchor") if step.kind is Resource.ANCHOR else ("profile", "profile")
        return f"{words}{name}=$({call} --query {member}.{member}Arn --output text)\n"
    return f"{words}{call} > /dev/null\n"


def _call(service: str, operation: str, parameters: Mapping[str, Any]) -> str:
    text = shlex.quote(json.dumps(dict(parameters), indent=2))
    return f"call {service} {operation.replace('_', '-')} {text}"


def _in_two_calls(step: PlannedCall, owner: str, more: str) -> str:
    """A bucket made, and then tagged, for a CLI that does not know the tags of a new one."""
    configuration = dict(step.parameters["CreateBucketConfiguration"])
    where = in_bucket(step.parameters["Bucket"], owner)
    tagging = {**where, "Tagging": {"TagSet": configuration.pop("Tags")}}
    given = {"Bucket": step.parameters["Bucket"]}
    given |= {"CreateBucketConfiguration": configuration} if configuration else {}
    calls = (_call("s3api", "create_bucket", given), _call("s3api", "put_bucket_tagging", tagging))
    return "".join(f"{call}{more} > /dev/null\n" for call in calls)
