"""A stand-in for the AWS CLI, for pages that are run as tests: `aws SERVICE OPERATION --option VALUE …`.

Glacier and S3 are asked of the emulator. IAM and Roles Anywhere's set-up, which the emulator has not, become
entries of its accounts file, made of the very documents that the command is given. Each call is checked by
AWS's own service model, as the real CLI does: an option that is not there ends it with 2, as does a wrong
document.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import uuid
from pathlib import Path
from typing import Any

import botocore.session
import jmespath
from botocore import xform_name
from botocore.model import OperationModel
from botocore.validate import ParamValidator

REGION = "eu-central-1"
ACCOUNT = os.environ["PAGE_ACCOUNT"]
ACCOUNTS = Path(os.environ["PAGE_ACCOUNTS"])
MADE = ACCOUNTS.with_suffix(".json")


def main(words: list[str]) -> None:
    """Do what one command line asks."""
    service, operation, *options = words
    model = _model(service, operation)
    told = _options(options)
    query, form = told.pop("query", None), told.pop("output", "json")
    parameters = _parameters(model, told)
    report = ParamValidator().validate(parameters, model.input_shape)
    if report.has_errors():
        _refuse(report.generate_report())
    answer = _answer(service, operation, parameters)
    answer.pop("ResponseMetadata", None)
    shown = jmespath.search(query, answer) if query else answer
    print(_text(shown) if form == "text" else json.dumps(shown, indent=4, default=str))


def _refuse(why: str) -> None:
    sys.stderr.write(f"aws: {why}\n")
    raise SystemExit(2)


def _model(service: str, operation: str) -> OperationModel:
    model = botocore.session.Session().get_service_model("s3" if service == "s3api" else service)
    for name in model.operation_names:
        if xform_name(name, "-") == operation:
            return model.operation_model(name)
    _refuse(f"{service} has no operation {operation}")
    raise AssertionError


def _options(words: list[str]) -> dict[str, str]:
    if len(words) % 2 or not all(word.startswith("--") for word in words[::2]):
        _refuse(f"options must be --name value: {words}")
    return {
        name.removeprefix("--"): _value(value) for name, value in zip(words[::2], words[1::2], strict=True)
    }


def _value(text: str) -> str:
    return Path(text.removeprefix("file://")).read_text() if text.startswith("file://") else text


def _parameters(model: OperationModel, told: dict[str, str]) -> dict[str, Any]:
    given = json.loads(told.pop("cli-input-json", "{}"))
    members = {xform_name(name, "-"): name for name in model.input_shape.members}
    for option, value in told.items():
        if option not in members:
            _refuse(f"{model.name} has no option --{option}")
        shape = model.input_shape.members[members[option]]
        given[members[option]] = value if shape.type_name == "string" else json.loads(value)
    return dict(given)


def _answer(service: str, operation: str, given: dict[str, Any]) -> dict[str, Any]:
    local = {
        "create-trust-anchor": _create_trust_anchor,
        "update-trust-anchor": _update_trust_anchor,
        "import-crl": _import_crl,
        "create-profile": _create_profile,
        "create-role": _create_role,
        "put-role-policy": _put_role_policy,
    }
    if service in ("iam", "rolesanywhere"):
        return local[operation](given)
    client = botocore.session.Session().create_client(
        "s3" if service == "s3api" else service,
        region_name=REGION,
        aws_access_key_id=os.environ["PAGE_KEY"],
        aws_secret_access_key=os.environ["PAGE_SECRET"],
    )
    return dict(getattr(client, operation.replace("-", "_"))(**given))


def _create_trust_anchor(given: dict[str, Any]) -> dict[str, Any]:
    known, made = _known(), str(uuid.uuid4())
    arn = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT}:trust-anchor/{made}"
    known["anchors"][arn] = given["source"]["sourceData"]["x509CertificateData"]
    _keep(known)
    return {"trustAnchor": {"trustAnchorArn": arn, "trustAnchorId": made, "name": given["name"]}}


def _update_trust_anchor(given: dict[str, Any]) -> dict[str, Any]:
    known = _known()
    (arn,) = (one for one in known["anchors"] if one.endswith("/" + given["trustAnchorId"]))
    known["anchors"][arn] = given["source"]["sourceData"]["x509CertificateData"]
    _keep(known)
    return {"trustAnchor": {"trustAnchorArn": arn, "trustAnchorId": given["trustAnchorId"]}}


def _import_crl(given: dict[str, Any]) -> dict[str, Any]:
    known, made = _known(), str(uuid.uuid4())
    known["crls"][given["trustAnchorArn"]] = base64.b64decode(given["crlData"], validate=True).decode()
    _keep(known)
    return {"crl": {"crlId": made, "name": given["name"]}}


def _create_profile(given: dict[str, Any]) -> dict[str, Any]:
    known = _known()
    missing = [arn for arn in given["roleArns"] if arn not in known["roles"]]
    if missing:
        _refuse(f"the profile names roles that are not there: {missing}")
    arn = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT}:profile/{uuid.uuid4()}"
    known["profiles"][arn] = given["roleArns"]
    _keep(known)
    return {"profile": {"profileArn": arn, "name": given["name"]}}


def _create_role(given: dict[str, Any]) -> dict[str, Any]:
    known = _known()
    arn = f"arn:aws:iam::{ACCOUNT}:role/{given['RoleName']}"
    known["roles"][arn] = {"trust": json.loads(given["AssumeRolePolicyDocument"]), "policies": {}}
    _keep(known)
    return {"Role": {"Arn": arn, "RoleName": given["RoleName"]}}


def _put_role_policy(given: dict[str, Any]) -> dict[str, Any]:
    known = _known()
    role = known["roles"][f"arn:aws:iam::{ACCOUNT}:role/{given['RoleName']}"]
    role["policies"][given["PolicyName"]] = json.loads(given["PolicyDocument"])
    _keep(known)
    return {}


def _known() -> dict[str, Any]:
    if MADE.exists():
        return dict(json.loads(MADE.read_text()))
    return {"anchors": {}, "crls": {}, "profiles": {}, "roles": {}}


def _keep(known: dict[str, Any]) -> None:
    """Write what was made, and the emulator's accounts file of it, replaced whole."""
    MADE.write_text(json.dumps(known))
    lines = ["[[account]]", f'id = "{ACCOUNT}"', "", "[[account.key]]"]
    lines += [
        f'access_key_id = "{os.environ["PAGE_KEY"]}"',
        f'secret_access_key = "{os.environ["PAGE_SECRET"]}"',
    ]
    for arn, certificates in known["anchors"].items():
        parts = [
            f"{part}-----END CERTIFICATE-----\n"
            for part in certificates.split("-----END CERTIFICATE-----")[:-1]
        ]
        lines += ["", "[[account.trust_anchor]]", f'arn = "{arn}"', f"certificates = {json.dumps(parts)}"]
        if arn in known["crls"]:
            lines += [f"crls = {json.dumps([known['crls'][arn]])}"]
    for arn, roles in known["profiles"].items():
        lines += ["", "[[account.profile]]", f'arn = "{arn}"', f"role_arns = {json.dumps(roles)}"]
    for arn, role in known["roles"].items():
        statements = [one for policy in role["policies"].values() for one in policy["Statement"]]
        whole = {"Version": "2012-10-17", "Statement": statements}
        lines += [
            "",
            "[[account.role]]",
            f'arn = "{arn}"',
            f"trust_policy = {json.dumps(json.dumps(role['trust']))}",
        ]
        lines.append(f"policy = {json.dumps(json.dumps(whole))}")
    half = ACCOUNTS.with_suffix(".new")
    half.write_text("\n".join(lines) + "\n")
    half.replace(ACCOUNTS)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join("\t".join(map(str, row)) if isinstance(row, list) else str(row) for row in value)
    return "None" if value is None else str(value)


if __name__ == "__main__":
    main(sys.argv[1:])
