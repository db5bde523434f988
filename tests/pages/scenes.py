"""The machines that pages suppose: two nights are backed up, recovery key and recovery lines are at hand."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.pages.machine import ACCOUNT, ADMIN_KEY, ADMIN_SECRET, Ended, Machine
from tests.pages.page import Block, script_of
from tests.support.emulated import RunningEmulator, StaticKey, write_accounts

SPEED = 20_000.0  # a retrieval of five hours takes a second
DIRECTORY = 'kind = "directory"\npath = "/var/lib/vault"\n'
GLACIER = 'kind = "glacier"\nregion = "eu-central-1"\nvault = "nightly"\n'
WAITS = "FAILED 17 "
_NIGHTS = """\
mkdir -p /srv/www /srv/old
echo 'hello' > /srv/www/index.html
echo 'listen 80' > /srv/www/site.conf
echo 'a certificate' > /etc/ssl/site.pem
echo 'select 1;' | gzip > /srv/db.sql.gz
echo 'select 0;' | gzip > /srv/old/db.sql.gz
echo 'sums' > /srv/report.pdf
nightvault init --key-file recovery.key
nightvault backup
echo '/dev/sdb1 /srv ext4 defaults 0 2' >> /etc/fstab
nightvault backup
cp /var/lib/nightvault/recovery-lines.txt .
"""


@contextmanager
def emulated(machine: Machine) -> Iterator[RunningEmulator]:
    """An emulator as the AWS of the machine; nightvault has its administrator's keys, too."""
    accounts = write_accounts(
        machine.folder / "accounts.toml", account_id=ACCOUNT, keys=[StaticKey(ADMIN_KEY, ADMIN_SECRET)]
    )
    with RunningEmulator(machine.folder / "emulator", accounts, speed=SPEED) as emulator:
        machine.connect(emulator)
        machine.environment |= {"AWS_ACCESS_KEY_ID": ADMIN_KEY, "AWS_SECRET_ACCESS_KEY": ADMIN_SECRET}
        machine.environment |= {"AWS_DEFAULT_REGION": "eu-central-1"}
        yield emulator


def free_port() -> int:
    """A port that nothing listens on, for an emulator that the page itself starts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_config(machine: Machine, vault: str) -> None:
    """A config where nightvault looks for it: a vault `cold`, and a job for /etc and /srv."""
    folder = machine.place("/etc/nightvault")
    folder.mkdir(exist_ok=True)
    (folder / "config.toml").write_text(
        '[state]\ndir = "/var/lib/nightvault"\n\n'
        f'[[vault]]\nname = "cold"\n{vault}\n'
        '[[job]]\nname = "all"\nvault = "cold"\nsources = ["/etc", "/srv"]\n'
    )


def two_nights(folder: Path, vault: str = DIRECTORY) -> Machine:
    """A server that has a directory vault and two snapshots."""
    machine = Machine.create(folder)
    machine.use_forks()
    write_config(machine, vault)
    back_up(machine)
    return machine


def back_up(machine: Machine) -> None:
    """Two nights; the recovery key and the recovery lines lie where commands are given."""
    ended = run(machine, [Block("sh", _NIGHTS, "", 0)])
    assert ended.failures == [], (ended.failures, ended.output)
    key = (machine.work / "recovery.key").read_text().strip().splitlines()[-1]
    machine.answers = {r"\[y/N\]: ?$": "y", r"(?i)recovery key[^\n]*: ?$": key}


def run(machine: Machine, blocks: Sequence[Block]) -> Ended:
    """Give the blocks' commands, in order, in one shell."""
    ended = machine.run(script_of(list(blocks)))
    assert "Traceback" not in ended.output, ended.output
    return ended


def run_until_ready(machine: Machine, blocks: Sequence[Block]) -> Ended:
    """As a page says: the same command again, hours later, while the vault makes things readable."""
    for _ in range(60):
        ended = run(machine, blocks)
        if not ended.failures:
            return ended
        assert all(line.startswith(WAITS) for line in ended.failures), (ended.failures, ended.output)
        time.sleep(0.5)
    raise AssertionError(f"it waits for ever: {ended.output}")
