"""A stand-in for the AWS CLI, for pages that are run as tests: `aws SERVICE OPERATION --option VALUE …`.

The emulator is asked. Each call is checked by AWS's own service model, as the real CLI does: an option that
is not there ends it with 2, as does a wrong document.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import botocore.session
import jmespath
from botocore import xform_name
from botocore.model import OperationModel
from botocore.validate import ParamValidator

REGION = "eu-central-1"


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
    for name, shape in model.input_shape.members.items():
        if shape.type_name == "blob" and isinstance(given.get(name), str):
            given[name] = base64.b64decode(given[name])  # as the CLI takes bytes in JSON
    return dict(given)


def _answer(service: str, operation: str, given: dict[str, Any]) -> dict[str, Any]:
    client = botocore.session.Session().create_client(
        "s3" if service == "s3api" else service,
        region_name=REGION,
        aws_access_key_id=os.environ["PAGE_KEY"],
        aws_secret_access_key=os.environ["PAGE_SECRET"],
    )
    return dict(getattr(client, operation.replace("-", "_"))(**given))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join("\t".join(map(str, row)) if isinstance(row, list) else str(row) for row in value)
    return "None" if value is None else str(value)


if __name__ == "__main__":
    main(sys.argv[1:])
