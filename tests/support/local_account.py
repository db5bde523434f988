"""An emulated account as its accounts file has it: one trust anchor, one profile, a role for each purpose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from backup.cli.trying.demonstration.local_aws import ACCOUNT, REGION

ANCHOR = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT}:trust-anchor/d0000000-0000-4000-8000-000000000001"
PROFILE = f"arn:aws:rolesanywhere:{REGION}:{ACCOUNT}:profile/d0000000-0000-4000-8000-000000000002"
BACKUP_ROLE = f"arn:aws:iam::{ACCOUNT}:role/nightvault-backup"
RESTORE_ROLE = f"arn:aws:iam::{ACCOUNT}:role/nightvault-restore"
PRUNE_ROLE = f"arn:aws:iam::{ACCOUNT}:role/nightvault-prune"
KEEPER_ROLE = f"arn:aws:iam::{ACCOUNT}:role/nightvault-keeper"
ROLES = {"backup": BACKUP_ROLE, "restore": RESTORE_ROLE, "prune": PRUNE_ROLE, "keeper": KEEPER_ROLE}


def write_accounts(path: str, *, ca: str, documents: Mapping[str, Any]) -> None:
    """The emulator's account: what a console user would have made of the documents of `aws policy`."""
    lines = [
        "[[account]]",
        f'id = "{ACCOUNT}"',
        "[[account.trust_anchor]]",
        f'arn = "{ANCHOR}"',
        f"certificates = [{json.dumps(ca)}]",
        "[[account.profile]]",
        f'arn = "{PROFILE}"',
        f"role_arns = {json.dumps(list(ROLES.values()))}",
    ]
    for part, arn in ROLES.items():
        lines += [
            "[[account.role]]",
            f'arn = "{arn}"',
            f"trust_policy = {json.dumps(json.dumps(documents['trust']))}",
            f"policy = {json.dumps(json.dumps(documents[part]))}",
        ]
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(lines) + "\n")
