"""Debian's Chromium, headless, with a profile in a folder of the test; ended by its driver.

with browser(tmp_path) as chromium:
    chromium.get("http://127.0.0.1:8484/")
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver import Chrome
from selenium.webdriver.chrome.service import Service

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs Debian's packages chromium and chromium-driver"
)


@contextmanager
def browser(folder: Path, *, script: bool = True) -> Iterator[webdriver.Chrome]:
    """A browser with a fresh profile; without `script` it runs no JavaScript of pages."""
    assert CHROMIUM
    assert DRIVER
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    wanted = [
        "--headless=new",
        "--disable-gpu",
        "--hide-scrollbars",
        "--no-first-run",
        "--disable-dev-shm-usage",
    ]
    wanted += ["--disable-extensions", "--disable-background-networking", f"--user-data-dir={folder}/profile"]
    if os.geteuid() == 0:
        wanted.append("--no-sandbox")
    for option in wanted:
        options.add_argument(option)
    if not script:
        options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
    made = webdriver.Chrome(
        options=options, service=Service(DRIVER, env={**os.environ, "TMPDIR": str(folder)})
    )
    try:
        yield made
    finally:
        made.quit()


def set_screen(chromium: webdriver.Chrome, width: int, height: int, *, scheme: str = "light") -> None:
    """Show pages so wide and high in CSS pixels, for readers who prefer that scheme."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


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
