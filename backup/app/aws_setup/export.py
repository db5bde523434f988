"""A set-up as code for other tools: Terraform, CloudFormation, a script of AWS CLI commands; pure.

All three are made of what `setup aws --apply` carries out: the script of its very steps, the other two of the
same `Wanted`. Whoever replaces a trust anchor gets another ARN, and every role refuses; so both forbid that,
and leave its notifications to AWS, whose defaults Terraform's provider takes for a change.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from backup.app.aws_setup.diff import to_make
from backup.app.aws_setup.documents import TAG, Document
from backup.app.aws_setup.model import (
    DESCRIPTION,
    POLICY,
    UNKNOWN_ANCHOR,
    Found,
    Kind,
    Step,
    Verb,
    Wanted,
    WantedRole,
    in_bucket,
)
from backup.app.aws_setup.places import BLOCKED, LIFECYCLE

_ANCHOR_OF_TERRAFORM = "aws_rolesanywhere_trust_anchor.nightvault.arn"
_ANCHOR_OF_FORMATION = {"Fn::GetAtt": ["TrustAnchor", "TrustAnchorArn"]}
_DAYS = LIFECYCLE["Rules"][0]["AbortIncompleteMultipartUpload"]["DaysAfterInitiation"]


def terraform(wanted: Wanted) -> Mapping[str, str]:
    """The files of a Terraform module, by their names."""
    files = {"main.tf": "\n".join(_blocks(wanted)), "ca.pem": wanted.certificates}
    for role in wanted.roles:
        files[f"{label(role)}.json"] = _json(role.policy)
        files[f"{label(role)}-trust.json"] = _json(wanted.trust_of(role, UNKNOWN_ANCHOR))
    if wanted.bucket is not None:
        files["bucket.json"] = _json(wanted.bucket.policy)
    return files


def label(role: WantedRole) -> str:
    """A role's name in Terraform and in file names."""
    return role.purpose.replace(" ", "_")


def _json(document: Document) -> str:
    return json.dumps(document, indent=2) + "\n"


def _blocks(wanted: Wanted) -> Iterator[str]:
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
    for role in wanted.roles:
        yield _role_blocks(role, tags)
    roles = ", ".join(f"aws_iam_role.{label(role)}.arn" for role in wanted.roles)
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
    yield from _place_blocks(wanted, tags)


def _role_blocks(role: WantedRole, tags: str) -> str:
    name = label(role)
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


def _place_blocks(wanted: Wanted, tags: str) -> Iterator[str]:
    keep = "  lifecycle {\n    prevent_destroy = true\n  }"
    if wanted.bucket is None:
        yield f"""\
resource "aws_glacier_vault" "nightvault" {{
  name = {_text(str(wanted.vault))}
{tags}
{keep}
}}
"""
        return
    blocked = "\n".join(f"  {_snake(name)} = {json.dumps(value)}" for name, value in BLOCKED.items())
    yield f"""\
{_NAMESPACE if wanted.bucket.is_reserved else ""}\
resource "aws_s3_bucket" "nightvault" {{
  bucket = {_text(wanted.bucket.name)}
{tags}
{keep}
}}

resource "aws_s3_bucket_public_access_block" "nightvault" {{
  bucket = aws_s3_bucket.nightvault.id
{blocked}
}}

resource "aws_s3_bucket_policy" "nightvault" {{
  bucket = aws_s3_bucket.nightvault.id
  policy = file("${{path.module}}/bucket.json")
}}

resource "aws_s3_bucket_lifecycle_configuration" "nightvault" {{
  bucket = aws_s3_bucket.nightvault.id
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
        yield """\
resource "aws_s3_bucket_versioning" "nightvault" {
  bucket = aws_s3_bucket.nightvault.id
  versioning_configuration {
    status = "Enabled"
  }
}
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


def cloudformation(wanted: Wanted) -> Mapping[str, Any]:
    """The template. CloudFormation makes no Glacier vaults: `nightvault init` does."""
    tags = [{"Key": TAG, "Value": wanted.name}]
    source = {
        "SourceType": "CERTIFICATE_BUNDLE",
        "SourceData": {"X509CertificateData": wanted.certificates},
    }
    anchor = {"Name": wanted.name, "Enabled": True, "Source": source, "Tags": tags}
    resources: dict[str, Any] = {"TrustAnchor": _kept("AWS::RolesAnywhere::TrustAnchor", anchor)}
    names = {
        role.name: "".join(word.title() for word in role.purpose.split()) + "Role" for role in wanted.roles
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
    if wanted.bucket is not None:
        resources |= _bucket_resources(wanted, tags)
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


def _bucket_resources(wanted: Wanted, tags: list[dict[str, str]]) -> Mapping[str, Any]:
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
    policy = {"Bucket": {"Ref": "Bucket"}, "PolicyDocument": bucket.policy}
    return {
        "Bucket": _kept("AWS::S3::Bucket", properties),
        "BucketPolicy": {"Type": "AWS::S3::BucketPolicy", "Properties": policy},
    }


_SCRIPT = """\
#!/usr/bin/env bash
# Made by `nightvault setup export --cli`: the calls that `nightvault setup aws --apply` makes, for an account
# in which nothing of it is there yet. It is for one go: given again, it would make things twice.
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


def script(wanted: Wanted) -> str:
    """A script for bash and the AWS CLI; the ARNs for the config are printed at its end.

    A CLI that does not know the namespace of a bucket's name is refused before anything is made; one that
    does not know a new bucket's tags gives them by a second call.
    """
    parts = [_SCRIPT.replace("@REGION@", shlex.quote(wanted.region))]
    if wanted.bucket is not None:
        parts.append(_NAMESPACE_CHECK if wanted.bucket.is_reserved else _TAGS_CHECK)
    parts += [_command(step, wanted.setup.account) for step in to_make(wanted, Found()).steps]
    parts.append('echo "trust_anchor_arn = \\"$anchor\\""\necho "profile_arn = \\"$profile\\""\n')
    return "\n".join(parts)


def _command(step: Step, account: str) -> str:
    service = "s3api" if step.service == "s3" else step.service
    call = _call(service, step.operation, step.parameters)
    words = f"# {step.verb} {step.kind} {step.name}: {step.words}\n"
    if step.operation == "create_bucket" and "BucketNamespace" not in step.parameters:
        two = _in_two_calls(step, account)
        return f"{words}if [[ $known == *Tags* ]]; then\n{call} > /dev/null\nelse\n{two}fi\n"
    if step.verb is Verb.MAKE and step.kind in (Kind.ANCHOR, Kind.PROFILE):
        name, member = ("anchor", "trustAnchor") if step.kind is Kind.ANCHOR else ("profile", "profile")
        return f"{words}{name}=$({call} --query {member}.{member}Arn --output text)\n"
    return f"{words}{call} > /dev/null\n"


def _call(service: str, operation: str, parameters: Mapping[str, Any]) -> str:
    text = shlex.quote(json.dumps(dict(parameters), indent=2))
    return f"call {service} {operation.replace('_', '-')} {text}"


def _in_two_calls(step: Step, owner: str) -> str:
    """A bucket made, and then tagged, for a CLI that does not know the tags of a new one."""
    configuration = dict(step.parameters["CreateBucketConfiguration"])
    where = in_bucket(step.parameters["Bucket"], owner)
    tagging = {**where, "Tagging": {"TagSet": configuration.pop("Tags")}}
    given = {"Bucket": step.parameters["Bucket"]}
    given |= {"CreateBucketConfiguration": configuration} if configuration else {}
    calls = (_call("s3api", "create_bucket", given), _call("s3api", "put_bucket_tagging", tagging))
    return "".join(f"{call} > /dev/null\n" for call in calls)
