"""Policies that AWS manages and that can be attached to a role here: those of administrators, S3 and Glacier.

Source: AWS Managed Policy Reference Guide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from backup.emulator.core.state.store import Transaction


def _allow(*actions: str) -> str:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


_LAMBDA = "s3-object-lambda"

MANAGED: Mapping[str, str] = {
    f"arn:aws:iam::aws:policy/{name}": text
    for name, text in {
        "AdministratorAccess": _allow("*"),
        "AmazonS3FullAccess": _allow("s3:*", f"{_LAMBDA}:*"),
        "AmazonS3ReadOnlyAccess": _allow(
            *("s3:Get*", "s3:List*", "s3:Describe*", f"{_LAMBDA}:Get*", f"{_LAMBDA}:List*")
        ),
        "AmazonGlacierFullAccess": _allow("glacier:*"),
    }.items()
}
"""Their documents by ARN."""


def attached_to(role: str, tx: Transaction) -> list[str]:
    """The ARNs of the policies that are attached to a role, in order."""
    found = "SELECT policy FROM attached_policies WHERE role = ? ORDER BY policy"
    return [row["policy"] for row in tx.db.execute(found, (role,))]
