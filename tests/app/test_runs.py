"""What a config becomes: recipients, keys, jobs, the last run, and vaults with the right role."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from backup.app.backups.contexts import backup_job, read_keys, recipients_of
from backup.app.base.clock import SystemClock
from backup.app.base.opened import opened
from backup.app.base.run_context import RunContext
from backup.app.base.vaults import Purpose, credential_source, make_vault
from backup.app.restores.contexts import restore_context
from backup.config import Config, load_config
from backup.credentials.boto import DefaultChain
from backup.credentials.rolesanywhere import RolesAnywhere
from backup.errors import ConfigError, InterruptedRunError, NoInventoryError, UsageError, VaultError
from backup.format.enrolment import slots_of
from backup.format.frame import FOR_A_LINE
from backup.kinds import TaskKind
from backup.memory import backup_memory
from backup.model import MIB, JobName, VaultName
from backup.operations.backup import Backup
from backup.operations.compact import Compact
from backup.operations.prune import Prune
from backup.operations.recorded import step_of
from backup.vault.directory import DirectoryVault
from backup.vault.glacier import GlacierVault
from tests.support.daemons import last_start
from tests.support.doubles import START, ManualClock, Silent
from tests.support.servers import Server, directory_server

GLACIER = """\
[[vault]]
name = "ice"
kind = "glacier"
region = "eu-central-1"
vault = "v"
role_arn = "arn:aws:iam::123456789012:role/backup"
restore_role_arn = "arn:aws:iam::123456789012:role/restore"
"""
IDENTITY = """\
[identity]
certificate = "/none.pem"
private_key = "/none.key"
[roles_anywhere]
region = "eu-central-1"
trust_anchor_arn = "arn:aws:rolesanywhere:eu-central-1:123456789012:trust-anchor/1"
profile_arn = "arn:aws:rolesanywhere:eu-central-1:123456789012:profile/2"
"""


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return directory_server(tmp_path)


def config_of(server: Server, *more: str) -> Config:
    server.config.write_text("\n".join([server.config.read_text(), *more]))
    return load_config(str(server.config))


def test_a_run_and_when_it_was(server: Server) -> None:
    server.init()
    config = config_of(server)
    main, clock = JobName("main"), ManualClock()
    assert last_start(config, TaskKind.BACKUP, main) is None
    progress = Silent()
    report = step_of(config, Backup, main, clock=clock, progress=progress, stop=threading.Event()).report
    assert (report.job, report.vault, report.outcome) == ("main", "cold", "done")
    assert progress.phases
    assert last_start(config, TaskKind.BACKUP, main) == START
    assert last_start(config, TaskKind.BACKUP, JobName("other")) is None


def test_a_run_that_is_asked_to_stop_before_it_begins(server: Server) -> None:
    server.init()
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedRunError):
        step_of(config_of(server), Backup, "main", clock=ManualClock(), progress=Silent(), stop=stop)


@pytest.mark.parametrize("kind", ["backup", "prune", "compact"])
@pytest.mark.parametrize("is_stopped", [True, False])
def test_what_was_asked_to_stop_is_interrupted_whatever_it_ends_with(
    server: Server, kind: str, is_stopped: bool
) -> None:
    """A vault that is silent ends its request long after the stop, by an error of its own."""
    server.init()
    server.done("backup")
    (server.folder / "vault").rename(server.folder / "away")
    config, stop = config_of(server), threading.Event()
    if is_stopped:
        stop.set()
    ways: dict[str, Callable[[], object]] = {
        "backup": lambda: step_of(
            config, Backup, JobName("main"), clock=SystemClock(), progress=Silent(), stop=stop
        ),
        "prune": lambda: step_of(
            config, Prune, VaultName("cold"), clock=SystemClock(), progress=Silent(), stop=stop
        ),
        "compact": lambda: step_of(
            config, Compact, VaultName("cold"), clock=SystemClock(), progress=Silent(), stop=stop
        ),
    }
    with pytest.raises(InterruptedRunError if is_stopped else VaultError):
        ways[kind]()
    newest = server.json("runs")[0]
    assert newest["kind"] == kind
    assert newest["outcome"] == ("interrupted" if is_stopped else "failed")


def test_no_inventory(server: Server) -> None:
    with pytest.raises(NoInventoryError):
        last_start(config_of(server), TaskKind.BACKUP, JobName("main"))


def test_a_job_brings_its_vaults_sizes_and_its_own_filters(server: Server) -> None:
    config = config_of(server, 'exclude = ["*.tmp"]', "compression_level = 7")
    job = backup_job(config, config.job(JobName("main")))
    assert job.sources == (str(server.source).encode(),)
    assert (job.pack_size, job.level) == (config.vaults[0].pack_size, 7)
    assert job.part_size == config.vaults[0].part_size


@pytest.mark.parametrize(
    ("vault", "level"),
    [
        ('kind = "directory"\npath = "/srv/backup"', None),
        ('kind = "glacier"\nregion = "eu-central-1"\nvault = "cold"', FOR_A_LINE),
        (
            'kind = "s3"\nregion = "eu-central-1"\nbucket = "cold-of-ours"\nstorage_class = "GLACIER"',
            FOR_A_LINE,
        ),
    ],
)
def test_what_is_sent_over_a_line_is_compressed_more(server: Server, vault: str, level: int | None) -> None:
    """A disk would wait for it, a line does not; a level that is set is that of any vault."""
    server.write_config(f'[[vault]]\nname = "cold"\n{vault}\n')
    config = config_of(server)
    assert backup_job(config, config.job(JobName("main"))).level == level
    config = config_of(server, "compression_level = 7")
    assert backup_job(config, config.job(JobName("main"))).level == 7


def test_recipients_come_from_the_config_before_those_of_init(server: Server) -> None:
    server.init()
    config = config_of(server)
    noted = recipients_of(config)
    assert len(noted) == 1
    inventory = opened(config)
    keys = read_keys(config, inventory)
    inventory.close()
    assert [key.to_text() for key in keys.recipients] == list(noted)
    recipient = keys.recipients[0].id
    assert [slot for slot, _ in keys.enrolments] == [recipient, *slots_of(recipient)]
    named = server.json("key", "generate", "--out", server.folder / "x.key")["recipient"]
    server.config.write_text(f'[encryption]\nrecipients = ["{named}"]\n' + server.config.read_text())
    assert recipients_of(load_config(str(server.config))) == (named,)


def test_each_kind_of_vault(server: Server) -> None:
    config = config_of(server, GLACIER)
    assert isinstance(make_vault(config, "cold", Purpose.BACKUP, ManualClock()), DirectoryVault)
    assert isinstance(make_vault(config, "ice", Purpose.BACKUP, ManualClock()), GlacierVault)
    with pytest.raises(UsageError, match="no vault named nope"):
        make_vault(config, "nope", Purpose.BACKUP, ManualClock())


@pytest.mark.parametrize(
    ("purpose", "role"),
    [(Purpose.BACKUP, "backup"), (Purpose.RESTORE, "restore"), (Purpose.PRUNE, "backup")],
)
def test_each_purpose_has_its_role(server: Server, purpose: Purpose, role: str) -> None:
    config = config_of(server, GLACIER, IDENTITY)
    source = credential_source(config, config.vault("ice"), purpose, SystemClock())
    assert isinstance(source, RolesAnywhere)
    assert repr(source) == f"RolesAnywhere(arn:aws:iam::123456789012:role/{role})"


def test_without_an_identity_boto3_looks_for_credentials(server: Server) -> None:
    config = config_of(server, GLACIER)
    source = credential_source(config, config.vault("ice"), Purpose.BACKUP, ManualClock())
    assert isinstance(source, DefaultChain)


def test_an_identity_needs_a_role(server: Server) -> None:
    without = "\n".join(line for line in GLACIER.splitlines() if "role_arn" not in line)
    config = config_of(server, without)
    ice = config.vault("ice")
    server.config.write_text(server.config.read_text().replace(without, "") + IDENTITY)
    named = load_config(str(server.config))
    with pytest.raises(ConfigError, match="role_arn"):
        credential_source(named, ice, Purpose.BACKUP, ManualClock())


def test_the_systems_clock() -> None:
    clock = SystemClock()
    before = clock.now()
    clock.sleep(0.001)
    assert clock.now() > before
    assert before.tzname() == "UTC"


def test_a_restore_asks_for_no_more_than_the_vaults_limit_lets_down(server: Server) -> None:
    server.init()
    text = server.config.read_text()
    for limit, least in (('"64KiB/s"', 64 * 1024), ('"1GiB/s"', 4 * MIB)):
        server.config.write_text(
            text.replace('kind = "directory"', f'kind = "directory"\ndownload_limit = {limit}')
        )
        config, clock = load_config(str(server.config)), ManualClock()
        with closing(opened(config)) as inventory:
            at = RunContext(config=config, inventory=inventory, clock=clock, progress=Silent())
            world = restore_context(at, VaultName("cold"))
        assert world.round_bytes == 12 * 3600 * least


def test_what_a_run_may_hold_follows_from_one_setting(server: Server) -> None:
    server.init()
    config = config_of(server, '[limits]\nmemory = "128MiB"')
    job = backup_job(config, config.job(JobName("main")))
    assert job.memory == backup_memory(128 * MIB)
    assert (job.part_size, job.most_parts_at_once, job.parts_are_fixed) == (32 * MIB, 1, False)
    with closing(opened(config)) as inventory:
        at = RunContext(config=config, inventory=inventory, clock=ManualClock(), progress=Silent())
        world = restore_context(at, VaultName("cold"))
    assert world.piece == 8 * MIB


def test_a_number_of_parts_of_one_s_own_is_kept(server: Server) -> None:
    text = server.config.read_text().replace('name = "cold"', 'name = "cold"\nparts_at_once = 2', 1)
    server.config.write_text(text)
    config = load_config(str(server.config))
    job = backup_job(config, config.job(JobName("main")))
    assert (job.part_size, job.most_parts_at_once, job.parts_are_fixed) == (32 * MIB, 2, True)
