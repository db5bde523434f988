"""axe-core, which looks for what is not accessible on a page; all its rules but those of WCAG AAA.

It lies beside the environment (`constraints-axe.txt`), so that nothing else of its package is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome

_SCRIPT = Path(sys.prefix) / "axe" / "axe_playwright_python" / "axe.min.js"
# Rules that are off unless asked for, such as that for targets of 24 pixels, are asked for.
_RUN = """
const [only, done] = arguments;
const left = (one) => one.tags.includes("wcag2aaa") || one.tags.includes("deprecated");
const names = axe.getRules().filter((one) => !left(one)).map((one) => one.ruleId);
const values = only.length ? only : names;
axe.run({runOnly: {type: "rule", values}, preload: false, resultTypes: ["violations"]})
  .then((found) => done({violations: found.violations, rules: values}),
        (error) => done({error: String(error)}));
"""
SERIOUS = frozenset({"serious", "critical"})


def found_by_axe(chromium: Chrome, only: Sequence[str] = ()) -> dict[str, Any]:
    """What axe says of the page that is shown: `violations`, and the `rules` tried: all, or `only`."""
    assert _SCRIPT.is_file(), f"{_SCRIPT} is missing: `make venv` installs it"
    if not chromium.execute_script("return 'axe' in window"):
        chromium.execute_script(_SCRIPT.read_text())
    found: dict[str, Any] = chromium.execute_async_script(_RUN, list(only))
    assert "violations" in found, found
    return found


def serious(chromium: Chrome, only: Sequence[str] = ()) -> list[str]:
    """What is serious or critical on the page that is shown, as sentences."""
    return [
        f"{violation['id']}: {node['html'][:200]} {node['failureSummary'][:300]}"
        for violation in found_by_axe(chromium, only)["violations"]
        if violation["impact"] in SERIOUS
        for node in violation["nodes"]
    ]
