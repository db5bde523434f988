"""The demo: all of the main job on this machine, exit code 0 only if the comparison finds nothing."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from backup.cli.trying.demonstration import story
from backup.cli.trying.demonstration.compare import differences, picture
from backup.cli.trying.demonstration.intruder import Intruder, Trial
from backup.cli.trying.demonstration.local_aws import ADMIN_KEY, ADMIN_SECRET
from backup.cli.trying.demonstration.scratch import Copied, change_a_few, copy_tree
from backup.cli.trying.demonstration.story import DemoReport
from backup.errors import NightvaultError
from tests.support.command_line import run
from tests.support.s3_clients import client
from tests.support.servers import fill
from tests.support.trees import assert_same_tree, snapshot_of

pytestmark = pytest.mark.slow


@pytest.fixture
def source(tmp_path: Path) -> Path:
    fill(tmp_path / "source")
    (tmp_path / "source" / "of others").mkdir()
    (tmp_path / "source" / "of others" / "b\udcff.txt").write_text("not UTF-8")
    return tmp_path / "source"


@pytest.mark.parametrize("kind", ["s3", pytest.param("glacier", marks=pytest.mark.real)])
def test_the_whole_story(source: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others go on to change the source: what was restored is compared with what was copied."""

    def copy_and_go_on(one: str, other: str) -> Copied:
        copied = copy_tree(one, other)
        spoil_content(source / "a.txt")
        (source / "new").touch()
        return copied

    before = snapshot_of(source)
    monkeypatch.setattr(story, "copy_tree", copy_and_go_on)
    work = tmp_path / "work"
    result = run("demo", "--source", source, "--dir", work, "--vault", kind)
    assert result.exit_code == 0, result.output
    told = result.stderr
    for command in (
        "ca create",
        "ca issue",
        "setup aws --apply",
        "init",
        "backup demo",
        "vaults",
        "archives",
        "snapshots",
        "runs",
        "rebuild",
    ):
        assert f"$ nightvault {command}" in told
    assert f"every byte, name, mode and time of both restores is as in the copy of {source}" in told
    assert f"--config {work}/config.toml snapshots" in told
    table = result.stdout.splitlines()
    assert table[0].split() == ["files", "read", "new", "uploaded", "archives", "seconds"]
    assert [line.split("  ")[0] for line in table[1:]] == [
        "first night",
        "second night",
        "restore of the first",
        "state directory lost: rebuild",
        "restore after it",
    ]
    for target in ("restored", "restored-again"):
        assert_same_tree(Path(f"{work}/{target}{work}/copy"), before)
    assert "Traceback" not in result.output + (work / "emulator.log").read_text()

    # A folder that a demo made may be made anew; any other may not.
    (source / "a.txt").unlink()
    (work / "old").write_text("of the last demo")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine").write_text("mine")
    refused = run("demo", "--source", source, "--dir", taken)
    assert refused.exit_code == 2
    assert "was not made by a demo" in refused.stderr
    assert (taken / "mine").read_text() == "mine"


def test_an_attack(source: Path, tmp_path: Path) -> None:
    """With all roles of the server: nothing that was promised goes before its date, and all comes back."""
    result = run("demo", "--ransomware", "--source", source, "--dir", tmp_path / "work")
    assert result.exit_code == 0, result.output
    told = result.stderr
    told_of = re.findall(r"^(?:--- \d|\$ nightvault (\S+))", told, re.MULTILINE)
    server = ("ca", "ca", "setup", "config", "identity", "init", "backup", "backup")
    clean = ("rebuild", "object-lock", "check", "undelete", "check", "restore", "restore")
    assert told_of == [
        *("", *server),
        *("", "object-lock", "status", "emulator"),
        *("", "backup", "forget"),
        *("", "emulator"),
        *("", *clean),
    ]
    lines = result.stdout.splitlines()
    assert all(len(line.rstrip()) <= 80 for line in lines), lines
    outcome = {line[:40].strip(): line.split()[-1] for line in lines[1:]}
    done = {what: role for what, role in outcome.items() if role != "-"}
    assert done == {"hide each object behind a delete marker": "prune", "put junk where it was": "backup"}
    assert len(outcome) == 11
    assert "sees 8 objects there, 0 of them as they were stored" in told
    assert "the promise held" in told
    assert "Traceback" not in result.output + (tmp_path / "work" / "emulator.log").read_text()


def test_a_promise_that_did_not_hold_is_exit_code_1(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has an admin's keys, too, takes the bucket's policy away and bypasses the locks."""

    def destroy(self: Intruder) -> list[Trial]:
        admin = self._roles["backup"].client
        made = client(admin.meta.endpoint_url, ADMIN_KEY, ADMIN_SECRET)
        of = {"Bucket": self._roles["backup"].bucket.name}
        made.delete_bucket_policy(**of)
        for line in self._ours:
            named = {**of, "Key": line["Key"], "VersionId": line["VersionId"]}
            made.delete_object(**named, BypassGovernanceRetention=True)
        return []

    monkeypatch.setattr(Intruder, "destroy", destroy)
    result = run("--json", "demo", "--ransomware", "--source", source, "--dir", tmp_path / "work")
    assert result.exit_code == 1, result.output
    document = json.loads(result.stdout)
    assert document["differences"] == ["nightvault rebuild ended with exit code 1"]
    assert "the promise did NOT hold: 1 difference:" in result.stderr


def test_an_attack_is_on_a_bucket(source: Path) -> None:
    refused = run("demo", "--ransomware", "--vault", "glacier", "--source", source)
    assert refused.exit_code == 2
    assert "object lock is of buckets" in refused.stderr


def report(source: Path, work: Path, found: list[str]) -> DemoReport:
    night = {"files": 4, "bytes_read": 1, "bytes_new": 1, "bytes_uploaded": 1, "archives": 1, "seconds": 0.1}
    restored = {"files": 4, "retrieved": 1, "retrievals": 1, "seconds": 0.1}
    left_out = frozenset({f"{source}/secret"})
    copied = Copied(4, 10, left_out)
    rebuilt = {"entries": 4, "seconds": 0.1}
    reports = night, night, restored, rebuilt, restored
    return DemoReport(str(source), str(work), copied, *reports, found, 1.0, "nightvault")


def test_a_difference_is_exit_code_1(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def pretend(given: str, work: str, **_: Any) -> DemoReport:
        before = picture(given)
        (Path(given) / "a.txt").write_text("tampered\n")
        found = list(differences(before, given))
        return report(Path(given), Path(work), found)

    monkeypatch.setattr(story, "run_demo", pretend)
    result = run("demo", "--source", source, "--dir", tmp_path / "work")
    assert result.exit_code == 1
    assert "NOT the same" in result.stderr
    assert "a.txt: the content differs" in result.stderr
    assert "1 entry of it could not be copied" in result.stderr
    document = json.loads(run("--json", "demo", "--source", source, "--dir", tmp_path / "work").stdout)
    assert document["left_out"] == [f"{source}/secret"]
    assert any("a.txt" in difference for difference in document["differences"])


def test_a_command_that_fails_ends_the_demo(source: Path, tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(NightvaultError, match="ca ended with exit code 1"):
        story.run_demo(str(source), str(tmp_path / "work"), program=["false"], say=said.append)
    assert "$ nightvault ca create" in "\n".join(said)


def spoil_content(path: Path) -> None:
    told = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"X")
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda tree: spoil_content(tree / "a.txt"), "./a.txt: the content differs"),
        (lambda tree: os.utime(tree / "a.txt", ns=(1, 1)), "./a.txt: time"),
        (lambda tree: (tree / "a.txt").chmod(0o600), "./a.txt: mode 0644 became 0600"),
        (lambda tree: (tree / "deep" / "b.bin").unlink(), "./deep/b.bin is not there"),
        (lambda tree: (tree / "deep" / "more").touch(), "./deep/more was not there"),
        (lambda tree: relink(tree / "link", "a.txt"), "./link: the link leads elsewhere"),
        (lambda tree: relink(tree / "a.txt", "link"), "./a.txt: another kind of entry"),
    ],
)
def test_every_difference_is_seen(
    source: Path, tmp_path: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    (source / "a.txt").chmod(0o644)
    other = tmp_path / "other"
    assert copy_tree(str(source), str(other)).left_out == frozenset()
    before = picture(str(source))
    assert list(differences(before, str(other))) == []
    spoil(other)
    found = list(differences(before, str(other)))
    assert any(sentence in text for text in found), found


def relink(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def test_what_cannot_be_copied_is_left_out(source: Path, tmp_path: Path) -> None:
    os.mkfifo(source / "pipe")
    copied = copy_tree(str(source), str(tmp_path / "other"))
    assert copied.left_out == frozenset({str(source / "pipe")})
    assert list(differences(picture(str(tmp_path / "other")), str(source))) == ["./pipe was not there"]


def test_the_second_night_has_a_bit_of_everything(source: Path) -> None:
    (source / "a.txt").chmod(0o400)
    before = snapshot_of(source)
    said: list[str] = []
    change_a_few(str(source), said.append)
    after = snapshot_of(source)
    assert [line.split()[0] for line in said] == ["added", "touched", "grown", "renamed", "removed"]
    assert b"added-by-the-demo.txt" in after
    assert len(before.keys() - after.keys()) == 2  # one renamed, one removed
    assert any(name.endswith(b".renamed") and stat.S_ISREG(seen.kind) for name, seen in after.items())
