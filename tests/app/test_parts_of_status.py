"""No part of a status takes another with it: each is broken in turn, and all others are as before.

The case that was: a table of prices with a mistake took away the status, the metrics and what is overdue.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.app.base.certificate_dates import note_token
from backup.app.base.opened import opened
from backup.app.status import recorded as recorded_module
from backup.app.status import status as status_module
from backup.app.status.concerns import concerns_of, late_or_unknown, overdue
from backup.app.status.parts import Level, Status, Topic
from backup.app.status.status import read_status
from backup.app.tasks.book import InventoryBook
from backup.config import Config, load_config
from backup.credentials.certificate import first_to_end
from backup.credentials.identity import load_identity
from backup.credentials.identity_paths import IdentityFiles
from backup.errors import ConfigError, InventoryDamagedError
from backup.inventory.questions.status import created_at
from backup.inventory.records.tasks import TaskRow, all_tasks, write_task
from backup.pki.authority import Authority, create_ca
from backup.pki.keys import KeyType
from backup.pki.subjects import Subject
from backup.web.pages.archives import money
from backup.web.pages.overview import certificate_of, overview
from backup.web.pages.quote import quote
from tests.support.doubles import START, ManualClock
from tests.support.identities import authority_in, issue_in
from tests.support.notified_servers import NotifiedServer, notified_server
from tests.support.servers import Server, directory_server

DAY = timedelta(days=1)
DRILL = '\n[[drill]]\nname = "rehearsal"\nschedule = "daily"\nvault = "cold"\nsample = "2 files"\n'
# What is called for a part, where, and the fields that may be missing then.
PARTS: list[tuple[str, str, set[str]]] = [
    ("the certificate", "backup.credentials.identity.own_chain", {"certificate"}),
    ("money", "backup.app.status.recorded.price_table", {"vaults", "currency"}),
    ("runs", "backup.inventory.questions.status.newest_runs", {"running", "ended", "jobs"}),
    ("what vaults hold", "backup.inventory.questions.status.held", {"vaults", "scheduled"}),
    ("what was proven", "backup.app.status.recorded.proofs", {"proof", "jobs"}),
    ("locks", "backup.app.status.recorded.lock_dates", {"jobs"}),
    ("legal holds", "backup.app.status.recorded.held_snapshots", {"jobs"}),
    ("what was loaded", "backup.app.status.recorded.load_proofs", {"jobs"}),
    ("what ended well", "backup.inventory.questions.status.last_good", {"vaults", "scheduled"}),
    ("dates of jobs", "backup.inventory.questions.status.snapshot_dates", {"jobs", "scheduled", "vaults"}),
    ("dates of jobs", "backup.inventory.records.tasks.all_pauses", {"jobs", "scheduled", "vaults"}),
    ("schedules", "backup.app.status.scheduled.read_scheduled", {"scheduled", "vaults"}),
    ("jobs", "backup.app.status.recorded.has_timer", {"jobs"}),
    ("restores", "backup.inventory.records.retrievals.list_restores", {"restores"}),
    ("locks of vaults", "backup.app.status.recorded.vault_locks", {"vaults"}),
    ("vaults", "backup.inventory.questions.status.oldest_unverified", {"vaults"}),
    ("disks", "backup.app.status.recorded.disks_of", {"disks"}),
    ("messages", "backup.inventory.records.messages.waiting", {"undelivered"}),
    ("who else writes into vaults", "backup.app.status.recorded.open_strangers", {"strangers"}),
    ("lost archives", "backup.inventory.questions.status.has_spoiled", {"losses"}),
    ("what others are to delete", "backup.app.status.recorded.undeleted_of", {"undeleted"}),
    ("sources that lost much", "backup.inventory.questions.status.any_waits", {"waits"}),
    ("settings of buckets", "backup.app.status.recorded.settings_of", {"settings"}),
]
VITAL = {"runs", "dates of jobs", "jobs", "lost archives"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """A server with something of everything."""
    folder = tmp_path_factory.mktemp("parts")
    made = directory_server(folder, clock=ManualClock())
    issued = issue_in(authority_in(str(folder / "ca"), START), str(folder / "id"), now=START)
    identity = f'[identity]\ncertificate = "{issued.certificate_path}"\nprivate_key = "{issued.key_path}"\n'
    made.config.write_text(made.config.read_text() + DRILL + identity)
    made.init()
    made.backup()
    made.done("drill", "run")
    config = load_config(str(made.config))
    read_status(config, made.clock.now())  # what is new is noted
    return made


def config_of(server: Server) -> Config:
    return load_config(str(server.config))


def differing(one: Status, other: Status) -> set[str]:
    """The fields that are not the same; what is free on a disk is others' doing."""
    found = {name for name in Status.__struct_fields__ if getattr(one, name) != getattr(other, name)}
    return found - ({"disks"} if len(one.disks) == len(other.disks) else set())


@pytest.mark.parametrize(
    "error", [ConfigError("it is wrong"), OSError(5, "input/output error"), KeyError("x")]
)
@pytest.mark.parametrize(("what", "where", "missing"), PARTS, ids=[where for _, where, _ in PARTS])
def test_each_part_that_breaks_leaves_the_others(
    server: Server,
    what: str,
    where: str,
    missing: set[str],
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, now = config_of(server), server.clock.now()
    whole = read_status(config, now)
    assert whole.unknown == []

    def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(where, broken)
    found = read_status(config, now)
    if isinstance(error, ConfigError) and what == "the certificate":  # that is what it says itself
        assert found.certificate is not None
        assert found.certificate.unreadable == str(error)
        return
    assert what in [gap.what for gap in found.unknown]
    assert differing(found, whole) <= missing | {"unknown", "concerns"}
    (concern, *_) = [concern for concern in found.concerns if concern.about == what]
    assert concern.level is (Level.CRITICAL if what in VITAL else Level.WARNING)
    assert concern.topic is (Topic.COST if what == "money" else Topic.UNKNOWN)
    assert str(error) in concern.text
    assert concerns_of(found) == found.concerns


@pytest.mark.parametrize(("what", "where"), [(what, where) for what, where, _ in PARTS])
def test_what_is_overdue_is_told_or_that_nobody_knows(
    server: Server, what: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--overdue` is all that a timer or cron asks: a part that breaks is no "nothing is overdue"."""
    config, now = config_of(server), server.clock.now() + 60 * DAY
    late = {concern.text for concern in overdue(read_status(config, now))}
    assert len(late) == 2

    def broken(*_: Any, **__: Any) -> Any:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(where, broken)
    found = read_status(config, now)
    told = late_or_unknown(found)
    assert {concern.text for concern in told} >= late or what in [concern.about for concern in told]
    assert told == sorted(told, key=lambda concern: concern.level is not Level.CRITICAL)
    assert {concern.text for concern in told} <= {concern.text for concern in found.concerns}


def test_nothing_is_overdue_only_where_that_is_known(
    told: NotifiedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ConfigError("it is wrong")

    told.later(60 * DAY)
    monkeypatch.setattr("backup.app.status.recorded.has_timer", broken)
    document = told.server.json("status", "--overdue", exit_code=1)
    assert document["concerns"][0]["text"].startswith("jobs: not known, because ")
    assert told.server.run("status", "--overdue", "--nagios").exit_code == 2
    told.server.run("status", "--overdue", "--notify")
    assert sorted(told.kinds()) == ["overdue", "warning"]


def test_a_status_waits_for_nobody_who_writes(server: Server) -> None:
    """A job that is seen for the first time is noted at the next look, then."""
    before = server.config.read_text()
    new = f'\n[[job]]\nname = "new"\nvault = "cold"\nschedule = "daily"\nsources = ["{server.source}"]\n'
    server.config.write_text(before + new)
    with closing(opened(config_of(server))) as inventory:
        try:
            with inventory.writing():
                began = time.monotonic()
                assert len(read_status(config_of(server), server.clock.now()).jobs) == 2
                assert time.monotonic() - began < 10
            with inventory.reading() as tx:
                assert ("backup", "new") not in all_tasks(tx)
            read_status(config_of(server), server.clock.now())
            with inventory.reading() as tx:
                assert ("backup", "new") in all_tasks(tx)
        finally:
            server.config.write_text(before)


def test_every_part_is_broken_here() -> None:
    """A part that is added and not named above fails this."""
    source = "".join(inspect.getsource(module) for module in (status_module, recorded_module))
    named = {what for what, _, _ in PARTS}
    said = {line.split('"')[1] for line in source.splitlines() if 'part("' in line or 'parts.read("' in line}
    said |= {line.split('"')[1] for line in source.splitlines() if line.strip().startswith('"schedules",')}
    assert said - {"the certificate's renewal"} == named


def test_an_inventory_that_is_damaged_is_no_part(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing would be known: that is said instead of a status."""

    def damaged(*_: Any) -> Any:
        raise InventoryDamagedError("the inventory is damaged")

    monkeypatch.setattr("backup.inventory.questions.status.newest_runs", damaged)
    with pytest.raises(InventoryDamagedError):
        read_status(config_of(server), server.clock.now())


@pytest.fixture
def told(tmp_path: Path) -> Iterator[NotifiedServer]:
    with notified_server(tmp_path, ManualClock()) as made:
        made.configure("[[job]]", f"{DRILL}\n[[job]]\nretention = {{ keep_last = 5 }}")
        made.server.backup()
        made.hook.taken.clear()
        yield made


def test_a_price_table_with_a_mistake_takes_nothing_away(told: NotifiedServer) -> None:
    """D16: prices are an ornament."""
    server = told.server
    server.config.write_text(
        server.config.read_text() + '\n[monitoring]\nmetrics_file = "nightvault.prom"\nmax_month_cost = 5\n'
    )
    (server.state / "prices.toml").write_text("this is no table\n")
    told.later(DAY)
    document = server.json("status", exit_code=1)
    (unknown,) = [concern for concern in document["concerns"] if concern["topic"] == "cost"]
    assert unknown["text"].startswith("money: not known, because ")
    assert unknown["command"] == "nightvault prices"
    assert document["jobs"][0]["overdue"]
    assert "is overdue since" in server.run("status", "--overdue").stdout
    assert server.run("status", "--nagios").exit_code == 2
    server.run("status", "--overdue", "--notify")
    assert told.kinds() == ["overdue"]
    server.backup()
    for words in ("drill run", "prune", "compact", "check --read-data 100%", "forget main"):
        server.done(*words.split())
    assert "nightvault_overdue_timestamp_seconds" in (server.folder / "nightvault.prom").read_text()
    assert told.kinds() == ["overdue", "recovered", "warning"]
    config, snapshot = config_of(server), server.json("snapshots")[0]["id"]
    with closing(opened(config)) as inventory, inventory.reading() as tx:
        now = server.clock.now()
        assert overview(tx, config, now, None).vaults
        page = money(tx, config, now)
        assert (page.prices_of, page.currency) == (None, "")
        assert page.prices_from.startswith("money: not known, because ")
        assert quote(tx, config, now, snapshot, [b"/"]).prices_of is None


def test_what_was_told_is_not_told_again_when_the_status_fails(
    told: NotifiedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D16: the message is a row and committed; that nothing can be recorded would be untrue."""
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))

    def damaged(*_: Any) -> Any:
        raise InventoryDamagedError("the inventory is damaged")

    told.break_vault()
    monkeypatch.setattr("backup.inventory.questions.status.newest_runs", damaged)
    told.server.fails(1, "backup")
    assert [title for title in told.titles() if "backup of job main failed" in title] == [
        "backup of job main failed"
    ]
    assert len(told.hook.taken) == 2
    assert told.titles()[0] != told.titles()[1]


def named(folder: str, name: str, now: datetime, days: int) -> Authority:
    """An authority of that name."""
    return create_ca(folder, Subject(name), key_type=KeyType.P_256, days=days, passphrase=None, now=now)


@pytest.mark.parametrize(
    ("days", "level"), [(30, None), (10, Level.WARNING), (2, Level.CRITICAL), (-1, Level.CRITICAL)]
)
@pytest.mark.parametrize("is_in_its_file", [True, False])
def test_a_chain_that_ends_is_told(
    server: Server, tmp_path: Path, days: int, level: Level | None, is_in_its_file: bool
) -> None:
    """D9: whatever is above the certificate, and ends first; no server below it gets in then."""
    now, before = server.clock.now(), server.config.read_text()
    above = [named(f"{tmp_path}/{life}", f"CA of {life} days", now, life) for life in (400, days + 100)]
    issued = issue_in(above[0], str(tmp_path / "id"), now=now, days=300)
    chain = b"".join(Path(authority.certificate_path).read_bytes() for authority in above)
    (tmp_path / "chain.pem").write_bytes(chain)
    text = f'[identity]\ncertificate = "{issued.certificate_path}"\nprivate_key = "{issued.key_path}"\n'
    if is_in_its_file:
        with open(issued.certificate_path, "ab") as file:
            file.write(chain)
    else:
        text += f'intermediates = "{tmp_path / "chain.pem"}"\n'
    server.config.write_text(before.partition("[identity]")[0] + text)
    try:
        config = config_of(server)
        found = read_status(config, now + 100 * DAY)
        assert found.certificate is not None
        assert found.certificate.issuer_ends is not None
        assert abs(found.certificate.issuer_ends - (now + (100 + days) * DAY)) < DAY
        told = [concern for concern in found.concerns if concern.topic is Topic.CERTIFICATE]
        assert [concern.level for concern in told] == ([level] if level else [])
        assert all(f"above this server's, of CN=CA of {days + 100} days" in concern.text for concern in told)
        if is_in_its_file:
            assert certificate_of(config) == found.certificate, "the page says the same"
    finally:
        server.config.write_text(before)


def test_an_older_certificate_of_the_same_name_in_the_chain_alarms_nobody(
    server: Server, tmp_path: Path
) -> None:
    """Both are there while a new one is rolled out: the one that lasts longer lets servers in."""
    now = server.clock.now()
    old, new = (authority_in(str(tmp_path / f"{days}"), now, days=days) for days in (5, 500))
    assert first_to_end([new.certificate, old.certificate]) == new.certificate
    assert first_to_end([old.certificate]) == old.certificate
    assert first_to_end([]) is None


def test_a_certificate_on_a_token_is_known_once_it_was_used(server: Server, tmp_path: Path) -> None:
    """No token is touched by a status: what was loaded from one is remembered."""
    now, before = server.clock.now(), server.config.read_text()
    issued = issue_in(authority_in(str(tmp_path / "ca"), now), str(tmp_path / "id"), now=now, days=10)
    used = load_identity(IdentityFiles(issued.certificate_path, issued.key_path))
    text = '[identity]\ncertificate = "pkcs11:token=one;object=cert"\nprivate_key = "pkcs11:token=one"\n'
    server.config.write_text(before.partition("[identity]")[0] + text)
    try:
        config = config_of(server)
        note_token(load_config_with(server, before), used.certificate, used.chain)
        assert read_status(config, now).certificate is None, "it was a file then"
        note_token(config, used.certificate, used.chain)
        found = read_status(config, now + 5 * DAY)
        assert found.certificate is not None
        assert found.certificate.not_after == used.certificate.not_valid_after_utc
        assert [concern.topic for concern in found.concerns if concern.topic is Topic.CERTIFICATE] == []
        later = read_status(config, now + 8.5 * DAY)
        assert [concern.level for concern in later.concerns if concern.topic is Topic.CERTIFICATE] == [
            Level.WARNING
        ]
        server.config.write_text(server.config.read_text().replace("object=cert", "object=other"))
        assert read_status(config_of(server), now).certificate is None, "another certificate"
    finally:
        server.config.write_text(before)


def load_config_with(server: Server, text: str) -> Config:
    """The config that this text is."""
    path = server.folder / "other.toml"
    path.write_text(text)
    path.chmod(0o600)
    return load_config(str(path))


def test_a_vault_that_is_gone_is_seen_before_a_backup_tries(tmp_path: Path) -> None:
    made = directory_server(tmp_path, clock=ManualClock())
    made.init()

    def away() -> list[str]:
        found = read_status(config_of(made), made.clock.now())
        return [concern.text for concern in found.concerns if concern.topic is Topic.AWAY]

    vault, gone = tmp_path / "vault", tmp_path / "gone"
    vault.rename(gone)
    assert away() == [], "nothing is stored yet that could be missing"
    gone.rename(vault)
    made.backup()
    assert away() == []
    vault.rename(gone)
    assert away() == ["vault cold is not there: is its disk mounted? No backup can be stored in it"]
    vault.mkdir()
    assert away(), "a mount point, and nothing is mounted"
    (vault / "lost+found").mkdir()
    assert away(), "another disk is"
    (vault / "lost+found").rmdir()
    vault.rmdir()
    vault.symlink_to("vault")
    assert away(), "what is there cannot be looked at"
    vault.unlink()
    vault.mkdir()
    before = made.config.read_text()
    made.config.write_text(before + '[job.hooks]\nbefore = ["mount", "/backup"]\n')
    assert away() == [], "it may be mounted by a hook"
    made.config.write_text(before)
    made.fails(1, "backup")
    assert away() == [], "the run that failed says so"
    vault.rmdir()
    gone.rename(vault)
    made.backup()
    assert away() == []


def test_nothing_is_known_since_before_there_was_an_inventory(server: Server) -> None:
    """A machine without a battery begins in 1970: what it saw first then is not overdue since."""
    before, now = server.config.read_text(), server.clock.now()
    new = f'\n[[job]]\nname = "new"\nvault = "cold"\nschedule = "daily"\nsources = ["{server.source}"]\n'
    server.config.write_text(before + new)
    try:
        config, long_ago = config_of(server), datetime(1970, 1, 1, tzinfo=UTC)
        with closing(opened(config)) as inventory, inventory.writing() as tx:
            write_task(tx, TaskRow("backup", "new", long_ago))
        (job,) = [job for job in read_status(config, now).jobs if job.name == "new"]
        assert not job.is_overdue
        (job,) = [job for job in read_status(config, now + 9 * DAY).jobs if job.name == "new"]
        assert job.is_overdue
        with closing(opened(config)) as inventory, inventory.reading() as tx:
            made = created_at(tx)
            assert (InventoryBook(config).read([]).newest_start or long_ago) >= made
    finally:
        server.config.write_text(before)
