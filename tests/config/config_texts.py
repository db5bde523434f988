"""Parts of configs that tests put together, and loading them."""

from __future__ import annotations

from pathlib import Path

import pytest

from backup.config import (
    Config,
    load_config,
)
from backup.errors import ConfigError

ANCHOR = "arn:aws:rolesanywhere:eu-central-1:123456789012:trust-anchor/11111111-2222"
PROFILE = "arn:aws:rolesanywhere:eu-central-1:123456789012:profile/33333333-4444"

DIRECTORY = """
[[vault]]
name = "disk"
kind = "directory"
path = "disk"
"""
GLACIER = """
[[vault]]
name = "cold"
kind = "glacier"
region = "eu-central-1"
vault = "nightvault"
role_arn = "arn:aws:iam::123456789012:role/service/backup"
"""
BUCKET = """
[[vault]]
name = "frozen"
kind = "s3"
region = "eu-central-1"
bucket = "some-bucket"
"""
JOB = """
[[job]]
name = "etc"
vault = "disk"
sources = ["/etc"]
"""
IDENTITY = f"""
[identity]
certificate = "a.crt"
private_key = "a.key"
[roles_anywhere]
region = "eu-central-1"
trust_anchor_arn = "{ANCHOR}"
profile_arn = "{PROFILE}"
"""


def load(folder: Path, text: str) -> Config:
    path = folder / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    return load_config(str(path))


def mistakes(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value)
