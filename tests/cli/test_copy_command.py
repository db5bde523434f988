"""`nightvault copy` as a user gives it: a second disk from which everything comes back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.aws_setups import become, emulated_account, new_server, set_up
from tests.support.doubles import ManualClock
from tests.support.servers import Server, directory_server


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """Two nights on one disk, and another disk."""
    made = directory_server(tmp_path)
    text = made.config.read_text()
    for name in ("second", "third"):
        text += f'\n[[vault]]\nname = "{name}"\nkind = "directory"\npath = "{tmp_path / name}"\n'
    made.config.write_text(text)
    made.init()
    for night in range(2):
        (made.source / f"file-{night}").write_bytes(os.urandom(400_000))
        made.backup()
    return made


def test_a_plan_then_a_copy_then_nothing(server: Server) -> None:
    words = "copy", "--from", "cold", "--to", "second"
    plan = server.json(*words, "--dry-run")
    done = server.json(*words)
    assert len(done["snapshots"]) == 2
    assert {**done, "recovery_line": ""} == plan
    assert done["recovery_line"]
    assert server.json(*words)["archives"] == 0
    text = server.done(*words).stdout.splitlines()
    assert ["snapshots", "0", "copied"] in [line.split() for line in text]
    assert ["archives", "0", "sent,", "0", "B"] in [line.split() for line in text]
    (run, *_) = server.json("runs")
    assert (run["kind"], run["job"], run["outcome"]) == ("copy", "main", "done")


@pytest.mark.parametrize("sample", ["50 files", "100MiB"])
def test_a_drill_reads_copies_back_where_they_lie(server: Server, tmp_path: Path, sample: str) -> None:
    """The first vault is away, and nothing of it counts as read; what is spoilt there is sent again."""
    server.done("copy", "--from", "cold", "--to", "second")
    add_drill(server, sample)
    (tmp_path / "vault").rename(tmp_path / "away")
    done = server.json("drill", "run")
    assert (done["outcome"], done["grade"], done["vault"]) == ("done", "read back", "second")
    assert done["read"]["archives"] >= 2
    assert server.json("check", "--vault", "second", "--read-data", "100%")["read"]["never_read"] == 0
    (tmp_path / "away").rename(tmp_path / "vault")
    (proof, *_) = server.json("drills")["jobs"]
    assert proof["read_back_share"] < 0.1, "more than the catalogs there"
    (copies,) = server.json("drills")["copies"]
    assert (copies["vault"], copies["read_back_share"], copies["last_opened"]) == ("second", 1.0, None)
    assert "copies in second" in server.done("drills").stdout
    spoil_copies(tmp_path / "second")
    failed = server.run("drill", "run", "--json")
    assert failed.exit_code == 1
    assert "; the next copy makes it again" in failed.stdout
    assert "`nightvault copy`: it sends again" in failed.stdout
    assert server.json("check", "--vault", "cold", "--read-data", "100%")["findings"] == []
    assert server.json("copy", "--from", "cold", "--to", "second")["archives"] >= 2
    assert server.json("drill", "run")["outcome"] == "done"


def add_drill(server: Server, sample: str) -> None:
    """Add a drill of the vault with copies."""
    with server.config.open("a") as file:
        file.write(f'\n[[drill]]\nname = "weekly"\nvault = "second"\nsample = "{sample}"\n')


def test_a_drill_opens_copies_where_they_lie_and_nothing_else(server: Server, tmp_path: Path) -> None:
    """The first vault is away; of what was opened there nothing counts as opened in it."""
    server.done("copy", "--from", "cold", "--to", "second")
    files = [path for path in server.source.rglob("*") if path.is_file() and not path.is_symlink()]
    copied = sum(path.stat().st_size > 0 for path in files)
    (server.source / "file-2").write_bytes(b"not copied" * 1000)
    server.done("backup")
    add_drill(server, "50 files")
    words = "drill", "run", "--key", str(server.key_file)
    plan = server.json(*words, "--dry-run")
    (first,) = (path for path in tmp_path.iterdir() if path.name == "vault")
    first.rename(tmp_path / "away")
    done = server.json(*words)
    assert (done["outcome"], done["grade"], done["vault"]) == ("done", "opened", "second")
    assert done["opened"]["files"] == copied
    assert plan["retrieved"]
    (run, *_) = server.json("drills")["drills"]
    assert (run["vault"], run["grade"], run["outcome"]) == ("second", "opened", "done")
    (tmp_path / "away").rename(first)
    (proof, *_) = server.json("drills")["jobs"]
    assert proof["opened"] == 0
    (copies,) = server.json("drills")["copies"]
    assert copies["opened_share"] > 0.8
    spoil_copies(tmp_path / "second")
    failed = server.run(*words, "--json")
    assert failed.exit_code == 1
    assert "damaged" in failed.stdout or "differs" in failed.stdout


def spoil_copies(folder: Path) -> None:
    """Flip the bits of all archives that a directory vault has now."""
    for path in (folder / "archives").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            path.chmod(0o600)
            path.write_bytes(bytes(byte ^ 255 for byte in data))


def test_a_vault_with_copies_is_checked_and_pruned_for_itself(server: Server) -> None:
    server.done("copy", "--from", "cold", "--to", "second")
    assert server.json("check", "--vault", "second")["findings"] == []
    assert server.json("prune", "--vault", "second")["condemned"]["archives"] == 0
    (server.source / "file-1").write_bytes(b"another night" * 5000)
    server.done("backup")
    with_copy(server, "[job.copy.retention]\nkeep_last = 1")
    assert server.json("copy")["forgotten"] == 2
    server.done("prune", "--vault", "cold")
    assert server.json("prune", "--vault", "second")["condemned"]["archives"] == 1
    assert len(server.json("snapshots")) == 3


def test_restores_read_from_the_copy_and_say_so(server: Server, tmp_path: Path) -> None:
    server.done("copy", "--from", "cold", "--to", "second")
    words = "restore", "latest", "--from-vault", "second", "--key", str(server.key_file)
    plan = server.json("restore", "latest", "--from-vault", "second", "--target", "x", "--dry-run")
    assert list(plan["vaults"]) == ["second"]
    ((vault, quotes),) = ((other["vault"], other["quotes"]) for other in plan["elsewhere"])
    assert (vault, quotes[0]["cost"]["total"]) == ("cold", "0")
    assert quotes[0]["retrieved"] == plan["retrieved"]
    done = server.json(*words, "--target", str(tmp_path / "one"))
    assert done["vaults"] == plan["vaults"]
    saved = tmp_path / "one" / str(server.source).lstrip("/")
    assert (saved / "file-1").read_bytes() == (server.source / "file-1").read_bytes()
    text = server.done(*words, "--target", str(tmp_path / "two")).stdout
    assert "from vault second" in text
    dumped = (
        "dump",
        f"latest:{server.source}/file-0",
        "--from-vault",
        "second",
        "--key",
        str(server.key_file),
    )
    server.done(*dumped, "-o", str(tmp_path / "file"))
    assert (tmp_path / "file").read_bytes() == (server.source / "file-0").read_bytes()


@pytest.mark.parametrize(
    ("home", "far", "read"), [("GLACIER_IR", "STANDARD", "far"), ("STANDARD", "STANDARD", "cold")]
)
def test_of_two_buckets_the_cheaper_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str, far: str, read: str
) -> None:
    with emulated_account(tmp_path / "aws") as emulator:
        become(monkeypatch, emulator)
        server = new_server(tmp_path / "web1", emulator, "s3")
        text = server.config.read_text().replace('"GLACIER" # cold', f'"{home}"')
        text += '\n[[job.copy]]\nvault = "far"\n\n[[vault]]\nname = "far"\nkind = "s3"\npath_style = true\n'
        server.config.write_text(f'{text}region = "eu-west-1"\nstorage_class = "{far}"\n')
        server.done(*set_up(server, "apply", "--yes"))
        server.init()
        server.backup()
        server.done("copy")
        plan = server.json("restore", "latest", "--target", "x", "--dry-run")
        assert (list(plan["vaults"]), len(plan["elsewhere"])) == ([read], 1)


def test_the_nights_of_each_vault_are_listed(server: Server) -> None:
    first, newest = server.json("snapshots")
    server.done("copy", "--from", "cold", "--to", "second", "--snapshot", first["id"])
    assert server.json("snapshots", "--vault", "cold") == [first, newest]
    assert server.json("snapshots", "--vault", "second") == [first]
    server.done("forget", first["id"])
    assert server.json("snapshots", "--vault", "cold") == [newest]
    assert server.json("snapshots", "--vault", "second") == [first]
    assert "no such snapshots" in server.done("snapshots", "--vault", "third").stdout
    assert "nowhere" in server.run("snapshots", "--vault", "nowhere").stderr


def test_the_first_disk_is_away(server: Server, tmp_path: Path) -> None:
    """Nothing is recorded; what reads the copy is named, and not taken unasked, as it may cost money."""
    text = server.done("copy", "--from", "cold", "--to", "second").stdout
    assert "recovery-lines.txt: keep a copy off this server" in " ".join(text.split())
    (tmp_path / "vault").rename(tmp_path / "away")
    words = "restore", "latest", "--target", str(tmp_path / "out"), "--key", str(server.key_file)
    for more in ((), ("--dry-run",)):
        told = server.run(*words, *more).stderr
        assert "vault cold is not there" in told
        assert "mount its disk, or read a copy: `--from-vault second`" in " ".join(told.split())
    assert server.json("restores") == []
    assert server.json(*words, "--from-vault", "second")["outcome"] == "done"
    assert "0 versions" not in server.done("stats", "--vault", "second").stdout


def test_what_the_first_vault_forgot_is_restored_from_the_copy(server: Server, tmp_path: Path) -> None:
    server.done("copy", "--from", "cold", "--to", "second")
    first = server.json("snapshots")[0]["id"]
    server.done("forget", first)
    words = "restore", first, "--target", str(tmp_path / "old"), "--key", str(server.key_file)
    assert "was forgotten" in server.run(*words).stderr
    assert server.json(*words, "--from-vault", "second")["outcome"] == "done"
    assert (
        "nothing of job main was copied"
        in server.run(*words[:1], "latest", *words[2:], "--from-vault", "third").stderr
    )


def test_wrong_words_are_refused(server: Server) -> None:
    assert "into itself" in server.run("copy", "--from", "second", "--to", "second").stderr
    told = server.run("copy", "--from", "second", "--to", "cold", "--job", "main").stderr
    assert "never backed up into vault second" in told
    told = server.run("copy", "--from", "second", "--to", "cold").stderr
    assert "vault second has no job's own backups" in told


def with_copy(server: Server, keys: str) -> None:
    """Give the job a copy into the other vault."""
    text = server.config.read_text()
    vaults = text.index('[[vault]]\nname = "second"')
    server.config.write_text(f'{text[:vaults]}[[job.copy]]\nvault = "second"\n{keys}\n{text[vaults:]}')


def test_by_the_config_alone(server: Server) -> None:
    told = server.run("copy").stderr
    assert "the config has no [[job.copy]]" in told
    with_copy(server, "[job.copy.retention]\nkeep_last = 1")
    _, newest = server.json("snapshots")
    assert server.json("copy", "--dry-run")["snapshots"] == [newest["id"]]
    assert server.json("copy", "--job", "main", "--to", "second")["snapshots"] == [newest["id"]]
    assert server.json("copy")["snapshots"] == []
    (job,) = server.json("config", "check")["jobs"]
    assert job["copies"] == [{"vault": "second", "schedule": None, "keeps": "the last snapshot", "delay": 0}]
    assert "copies to second by hand (the last snapshot)" in server.done("config", "check").stdout
    shown = server.json("config", "show", "--set")["settings"]
    assert "second" in str(shown)
    assert "no [[job.copy]] to vault cold" in server.run("copy", "--job", "main", "--to", "cold").stderr
    assert "--from and --to" in server.run("copy", "--tag", "a").stderr
    assert "--from needs --to" in server.run("copy", "--from", "cold").stderr


def test_what_is_younger_than_the_delay_waits_and_stays(server: Server) -> None:
    """The job's own policy would keep one night; its copies are made two days later."""
    with_copy(server, 'delay = "2d"')
    assert server.json("copy")["snapshots"] == []
    every = {kept["id"] for kept in server.json("snapshots")}
    forgot = server.json("forget", "main", "--keep-last", "1")
    assert "vault second is still to get a copy of it" in str(forgot)
    assert {kept["id"] for kept in server.json("snapshots")} == every
    clock = server.clock
    assert isinstance(clock, ManualClock)
    clock.sleep(2 * 24 * 3600)
    assert set(server.json("copy")["snapshots"]) == every
    server.done("forget", "main", "--keep-last", "1")
    assert len(server.json("snapshots")) == 1


def test_a_bad_night_is_forgotten_by_name_and_never_copied(server: Server) -> None:
    with_copy(server, 'delay = "2d"')
    bad, good = server.json("snapshots")
    server.done("forget", bad["id"])
    clock = server.clock
    assert isinstance(clock, ManualClock)
    clock.sleep(2 * 24 * 3600)
    assert server.json("copy")["snapshots"] == [good["id"]]


def test_after_a_rebuild_the_key_is_given_once(server: Server) -> None:
    with_copy(server, "")
    assert len(server.json("copy")["snapshots"]) == 2
    (server.source / "file-2").write_bytes(os.urandom(300_000))
    key = "--key", str(server.key_file)
    text = server.run("rebuild", "--vault", "cold", "--set-aside", *key).output
    assert "copies are in vault second" in text
    assert "`nightvault copy --key FILE`" in text
    server.done("backup")
    assert "does not know yet" in server.fails(1, "copy")
    assert "does not know yet" in server.fails(1, "copy", "--dry-run", *key)
    (run, *_) = server.json("runs")
    assert (run["kind"], run["outcome"]) == ("copy", "failed")
    assert any("copies in vault second" in text for text in server.json("prune", "--vault", "cold")["held"])
    done = server.json("copy", *key)
    assert (len(done["snapshots"]), done["archives"]) == (1, 1)
    assert server.json("copy")["archives"] == 0
    assert server.json("prune", "--vault", "cold")["held"] == []
    assert server.json("check", "--vault", "second")["findings"] == []
    assert len(server.json("snapshots")) == 3


def test_what_the_copy_forgot_is_taken_back_there(server: Server, tmp_path: Path) -> None:
    with_copy(server, "")
    server.done("copy")
    server.config.write_text(
        server.config.read_text().replace(
            '[[job.copy]]\nvault = "second"\n',
            '[[job.copy]]\nvault = "second"\nretention = { keep_last = 1 }\n',
        )
    )
    (server.source / "more").write_bytes(os.urandom(200_000))
    server.backup()
    first, second, _ = (snapshot["id"] for snapshot in server.json("snapshots"))
    plan, before = server.json("copy", "--dry-run"), server.json("prune", "--vault", "second", "--dry-run")
    assert (plan["forgotten"], plan["forgets"]) == (2, [first, second])
    assert before["forgets"] == {"main": [first]}, "the newest that is there stays until a newer one is"
    told = server.done("prune", "--vault", "second", "--dry-run").stdout
    assert f"1 copy of job main: {first[:8]}, by the next copy's policy" in " ".join(told.split())
    assert f"{first[:8]}, {second[:8]}" in " ".join(server.done("copy", "--dry-run").stdout.split())
    assert server.json("copy")["forgotten"] == 2
    assert server.json("prune", "--vault", "second", "--dry-run")["forgets"] == {}
    server.done("prune", "--vault", "second")
    words = "forget", "--undo", "--vault", "second"
    plan = server.json(*words, "--all", "--dry-run")
    assert (plan["taken_back"], plan["cannot_come_back"], plan["amended"]) == ([first, second], [], [])
    done = server.run(*words, first)
    assert done.exit_code == 0, done.stderr
    assert "came back in vault second" in done.stdout
    assert "may forget them again" in done.stdout + done.stderr
    assert server.json(*words, "main", "--dry-run")["taken_back"] == [second]
    assert "is not forgotten" in server.run(*words, first).stderr
    assert "has no copies" in server.run("forget", "--undo", "--vault", "third", "--all").stderr
    assert "--vault belongs to --undo" in server.run("forget", "--vault", "second", first).stderr
    assert "--vault second --all --dry-run" in server.run(*words).stderr
    assert len(server.json("snapshots")) == 3
