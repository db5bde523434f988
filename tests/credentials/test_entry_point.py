"""What other programs import: the documented example as it stands, and nothing heavy before it is used."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import backup.credentials
from tests.support.identities import ANCHOR, PROFILE, ROLE

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "roles-anywhere.md"


def test_the_documented_example_runs() -> None:
    found = re.search(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    lines = [line for line in found[1].splitlines() if line]
    assert len(lines) <= 10
    names: dict[str, Any] = {"ANCHOR": ANCHOR, "PROFILE": PROFILE, "ROLE": ROLE}
    exec(found[1], names)
    assert names["glacier"].meta.region_name == "eu-central-1"


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import backup, backup.credentials, sys; print([n for n in ('boto3', 'urllib3') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_name_is_there_and_no_other() -> None:
    assert all(getattr(backup.credentials, name) for name in backup.credentials.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        backup.credentials.nothing  # noqa: B018
