"""`--delete` amid real mounts: directories are judged on their own file system, as the snapshot had it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tests.support.emulated import REPOSITORY

APART = ["unshare", "--mount", "--propagation", "private"]
DISK, SOURCE = "source/disk", "source"


def may_mount() -> bool:
    """Whether we are root, and more than root of a container that may not."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = [*APART, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not may_mount(), reason="needs root and a mount namespace")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What came of each case of `mounted.py`."""
    words = [*APART, sys.executable, "-m", "tests.restorer.mounted", str(tmp_path_factory.mktemp("mounted"))]
    done = subprocess.run(words, cwd=REPOSITORY, stdout=subprocess.PIPE, check=True, timeout=120)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.parametrize(
    ("case", "files", "removed", "left"),
    [
        ("entered_by_none", ["disk/deep/two", "disk/one", "top"], 1, DISK),
        ("named_alone", ["disk/deep/two", "disk/one"], 0, DISK),
        ("entered_by_the_job", ["disk/one", "disk/stray"], 1, DISK),
        ("chosen_on_a_disk", ["disk/one", "stray"], 1, None),
        ("mounted_since", ["disk/deep/two", "disk/old", "disk/one"], 1, DISK),
        ("bound_since", ["disk/old", "disk/one"], 0, DISK),
        ("over_the_source", ["old", "one"], 0, SOURCE),
        ("source_on_a_disk", ["top"], 1, None),
        ("source_below_a_disk", ["top"], 1, None),
        ("target_is_a_disk", ["deep/disk/one", "top"], 2, None),
    ],
)
def test_other_file_systems_stay(
    found: dict[str, Any], case: str, files: list[str], removed: int, left: str | None
) -> None:
    told = [f"--delete leaves {left} alone: another file system is mounted there"] if left else []
    assert (found[case]["files"], found[case]["removed"]) == (files, removed)
    assert [sentence.partition(";")[0] for sentence in found[case]["left_alone"]] == told
    assert found[case]["problems"] == []


def test_what_is_mounted_between_the_question_and_the_removal_stays(found: dict[str, Any]) -> None:
    after = found["mounted_while_it_waits"]
    assert (after["files"], after["removed"]) == (["disk/old", "disk/stray"], 1)
    (problem,) = after["problems"]
    assert "another file system was mounted there" in problem


def test_what_nightvault_uses_stays_by_whichever_path_it_is_met(found: dict[str, Any]) -> None:
    excluded, saved = found["own_state"], found["own_state_saved"]
    assert [name for name in excluded["files"] if not name.startswith("nv/")] == ["top"]
    assert "nv/inventory.sqlite" in excluded["files"]
    assert (excluded["removed"], excluded["problems"], excluded["left_alone"]) == (3, [], [])
    assert (saved["files"], saved["removed"], saved["problems"]) == (["nv/new", "top"], 0, [])
    told = [text for text in saved["left_alone"] if "itself uses it" in text]
    assert told == ["source/nv is left as it is: nightvault itself uses it"]


def test_a_vault_inside_a_source_by_a_mount_is_warned_of(found: dict[str, Any]) -> None:
    told = found["told_of_nesting"]
    state, vault = told["plain"]
    assert state == "job all backs up the state directory source/in side/state:"
    assert vault.startswith(
        "job all backs up vault disk, source/in side/vault in its source source: each run"
    )
    assert told["excluded"] == []


def test_a_disk_that_is_not_mounted_now_is_told_and_nothing_is_removed_there(found: dict[str, Any]) -> None:
    told = "was a mount point when it was saved, and nothing is mounted there now: what is restored goes to"
    inner, outer = found["unmounted_since"], found["source_unmounted_since"]
    assert inner["files"] == [
        "disk/deep/local",
        "disk/deep/two",
        "disk/local",
        "disk/one",
        "here/three",
        "top",
    ]
    assert inner["removed"] == 1
    assert (
        f"source/disk {told} the file system around it, and --delete leaves it alone" in inner["left_alone"]
    )
    assert not [text for text in inner["left_alone"] if text.startswith("source/here was")]
    assert (outer["files"], outer["removed"]) == (["local", "top"], 0)
    assert [text.partition(" was a")[0] for text in (*outer["left_alone"], outer["told"])] == [
        "above",
        "above",
    ]
