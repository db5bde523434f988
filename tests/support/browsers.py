"""Debian's Chromium, headless, with a profile in a folder of the test; ended by its driver.

with browser(tmp_path) as chromium:
    chromium.get("http://127.0.0.1:8484/")
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver
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
