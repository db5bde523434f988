"""Clients of an emulated AWS for who sets accounts up: boto3 with its validation, by root or as a user."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config

from tests.support.emulated import (
    ACCESS_KEY_ID,
    REGION,
    SECRET_ACCESS_KEY,
    RunningEmulator,
)


def admin_client(
    emulator: RunningEmulator,
    service: str,
    key_id: str = ACCESS_KEY_ID,
    secret: str = SECRET_ACCESS_KEY,
    token: str | None = None,
) -> Any:
    """boto3's client of one service, without retries."""
    return boto3.client(
        service,
        endpoint_url=emulator.s3_url if service == "s3" else emulator.glacier_url,
        region_name=REGION,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        aws_session_token=token,
        config=Config(retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
    )


def document(*statements: Mapping[str, object]) -> str:
    """A policy of these statements."""
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def allow(action: object, resource: object = "*", **more: object) -> dict[str, object]:
    """A statement that allows."""
    return {"Effect": "Allow", "Action": action, "Resource": resource, **more}


def trust(*conditions: Mapping[str, object]) -> str:
    """A trust policy for Roles Anywhere."""
    statement: dict[str, object] = {
        "Effect": "Allow",
        "Principal": {"Service": "rolesanywhere.amazonaws.com"},
        "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
    }
    if conditions:
        statement["Condition"] = dict(*conditions)
    return document(statement)
