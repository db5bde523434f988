"""Alert rules and dashboard: Prometheus understands them, and they ask for metrics that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from backup.app.status.metrics import metrics_text
from tests.support.statuses import status

MONITORING = Path(__file__).resolve().parents[2] / "deploy" / "monitoring"
RULES, DASHBOARD = MONITORING / "nightvault.rules.yml", MONITORING / "nightvault.dashboard.json"
EXPRESSIONS = re.compile(r"^\s+expr: (.+)$", re.MULTILINE)
NAME = re.compile(r"\bnightvault_[a-z_]+")

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs promtool (Debian's prometheus)"
)


def names() -> set[str]:
    """The metrics that there are."""
    return set(re.findall(r"^# TYPE (\S+) gauge$", metrics_text(status()), re.MULTILINE))


def dashboard() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return document


def test_rules_ask_for_what_there_is() -> None:
    expressions = EXPRESSIONS.findall(RULES.read_text())
    assert len(expressions) == RULES.read_text().count("- alert:") >= 8
    asked = {name for expression in expressions for name in NAME.findall(expression)}
    assert asked <= names()
    assert "nightvault_overdue_timestamp_seconds" in asked


def test_the_dashboard_asks_for_what_there_is() -> None:
    panels = dashboard()["panels"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    asked = {name for expression in expressions for name in NAME.findall(expression)}
    assert asked <= names()
    assert len(asked) >= 7


def test_panels_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert place["x"] + place["w"] <= 24
        taken |= cells


@needs_promtool
@pytest.mark.parametrize(
    "words", [["check", "rules", RULES.name], ["test", "rules", "nightvault.rules.test.yml"]]
)
def test_promtool(words: list[str]) -> None:
    """The rules are read, and fire when they should and not before."""
    ended = subprocess.run(["promtool", *words], cwd=MONITORING, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@needs_promtool
def test_promtool_reads_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    expressions = [target["expr"] for panel in dashboard()["panels"] for target in panel["targets"]]
    rules = [{"record": f"panel:{n}", "expr": expression} for n, expression in enumerate(expressions)]
    path = tmp_path / "panels.yml"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": rules}]}))
    ended = subprocess.run(
        ["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
