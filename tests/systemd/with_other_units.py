"""Cases of a machine with units beside the daemon's, or in its place, in this order."""

from __future__ import annotations

import re

from tests.support.emulated import REPOSITORY
from tests.systemd.machine import Machine
from tests.systemd.site import CONFIG, CONFIG_FILE, KEY_FILE
from tests.systemd.with_daemon import UNIT, install, wait_for_backups

WITH_CREDENTIAL = CONFIG.replace(KEY_FILE, "credential:web1.key")
WITH_PAGE = f"[web]\n\n{WITH_CREDENTIAL}"
MOUNT = "nightvault-mount.service"
PAGE, UNPRIVILEGED = "nightvault-web.service", "nightvault-unprivileged.service"

ASKED = """\
import json, sys, urllib.request
request = urllib.request.Request("http://127.0.0.1:8484" + sys.argv[1])
request.add_header("Authorization", "Bearer " + sys.stdin.read().strip())
print(urllib.request.urlopen(request, timeout=60).read().decode().strip())
"""


def the_page(machine: Machine) -> None:
    """Installed as its page says: a user of its own, and a daemon that writes what the page is given."""
    machine.write(CONFIG_FILE, WITH_PAGE)
    mark = machine.mark()
    said = install(machine, restart=UNIT)
    assert "useradd --system --home-dir /nonexistent" in said
    machine.wait_for_word(mark, "the page listens on http://127.0.0.1:8484", unit=PAGE)


def what_the_page_tells(machine: Machine) -> None:
    """What the daemon did, to a program with a token."""
    machine.run("nightvault web user add ada --password-file - 2>&1", given="a long enough password\n")
    token = machine.run("nightvault web token add reader --user ada 2>/dev/null").split()[-1]
    machine.write("/root/ask.py", ASKED)
    assert machine.run("python3 /root/ask.py /healthz", given=token) == "ok"
    told = machine.run("python3 /root/ask.py /api/v1/runs?job=near", given=token)
    assert '"outcome":"done"' in told.replace(" ", "")


def what_the_page_may_read(machine: Machine) -> None:
    """Its user: a copy of the inventory, and nothing else of the state directory."""
    assert machine.run(f"stat -c %U /proc/$(systemctl show {PAGE} -P MainPID)") == "nightvault-web"
    may_read = "runuser -u nightvault-web -- head -c 1 /var/lib/nightvault/"
    machine.run(f"{may_read}page.sqlite")
    for name in ("inventory.sqlite", "page.toml", "keys/signer.key"):
        assert "Permission denied" in machine.run(f"{may_read}{name} 2>&1", code=1)


def an_uninstallation(machine: Machine) -> None:
    """It leaves nothing of the units: no file, link, process, failure or memory of a timer."""
    machine.run("nightvault uninstall --systemd 2>&1")
    aws = machine.run("systemctl show aws.service -P MainPID")
    assert machine.run("find /etc/systemd /run/systemd /var/lib/systemd -name '*nightvault*'") == ""
    assert machine.run("systemctl list-units --all --no-legend --plain 'nightvault*'") == ""
    assert machine.run("systemctl list-unit-files --no-legend 'nightvault*'", code=None) == ""
    assert machine.run("systemctl list-timers --all --no-legend 'nightvault*'") == ""
    assert machine.run("find /run -path '*/credentials/*' -prune -o -name 'nightvault*' -print") == ""
    assert machine.run("grep -lsx nightvault /proc/[0-9]*/comm") == f"/proc/{aws}/comm"
    machine.run("test -e /var/lib/nightvault/inventory.sqlite -a -e /etc/nightvault/config.toml")


def an_ordinary_user(machine: Machine) -> None:
    """The daemon as a user who may read every file and nothing else."""
    machine.write(CONFIG_FILE, WITH_CREDENTIAL)
    said = install(machine, "--unprivileged")
    assert "chown -R nightvault: /var/lib/nightvault /srv/vault" in said
    mark = machine.mark()
    wait_for_backups(machine, mark, UNPRIVILEGED)
    process = machine.run(f"systemctl show {UNPRIVILEGED} -P MainPID")
    status = f"grep -hE '^(Uid|CapEff|CapBnd):' /proc/{process}/status"
    uid = machine.run("id -u nightvault")
    reads_all = "0000000000000004"
    assert machine.run(status).split() == [
        *("Uid:", uid, uid, uid, uid),
        *("CapEff:", reads_all, "CapBnd:", reads_all),
    ]
    assert "secret.txt" in machine.run("nightvault ls latest:/srv/data/theirs --job near")
    assert machine.run("find /var/lib/nightvault /srv/vault ! -user nightvault") == ""
    wait_for_backups(machine, machine.mark(), UNPRIVILEGED)


def timers(machine: Machine) -> None:
    """A timer for each job in place of the daemon, still as the ordinary user."""
    mark, backups = machine.mark(), "nightvault-backup@*.service"
    install(machine, "--unprivileged", "--timers")
    machine.wait_for_word(mark, "Finished nightvault-backup@", unit=backups)
    machine.run("systemctl stop nightvault-backup@main.timer nightvault-backup@near.timer")
    machine.wait(f"! systemctl list-units --no-legend --plain '{backups}' | grep -qw start")
    for job in ("main", "near"):
        machine.run(f"systemctl start nightvault-backup@{job}.service")
        ended = f"systemctl show nightvault-backup@{job}.service -P Result,ExecMainStatus"
        assert machine.run(ended) == "success\n0"


def a_mount_at_every_start(machine: Machine) -> None:
    """The unit and the line of fstab in looking.md: before the key is there, after a boot, a kill, a stop."""
    page = (REPOSITORY / "docs" / "looking.md").read_text()
    (unit,), (line,) = (
        re.findall(f"^```{kind}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL) for kind in ("ini", "fstab")
    )
    unit = unit.replace("/usr/bin/", "/usr/local/bin/").replace("/run/nightvault/KEY", "/root/KEY")
    machine.write(f"/etc/systemd/system/{MOUNT}", unit, "0644")
    machine.run("mkdir -p /mnt/nights /srv/yesterday")
    machine.run("cat >> /etc/fstab", given=line.replace("/latest/all/", "/latest/near/"))
    machine.run(
        f"systemctl daemon-reload; systemctl start srv-yesterday.automount; systemctl enable {MOUNT} 2>&1"
    )
    machine.run("ls /srv/yesterday", code=2)
    assert machine.run(f"systemctl show {MOUNT} -P ActiveState,NRestarts,AssertResult") == "0\ninactive\nno"
    machine.run("cp /root/recovery.key /root/KEY; diff -r /srv/data /srv/yesterday/data")
    machine.reboot()
    assert machine.run("systemctl --failed --no-legend --plain") == ""
    assert machine.run("findmnt -no FSTYPE /mnt/nights") == "fuse.nightvault"
    machine.run("diff -r /srv/data /srv/yesterday/data")
    assert machine.run("stat -c %u:%a /srv/yesterday/data/theirs") == "4321:700"
    as_nobody = "runuser -u nobody -- cat /srv/yesterday/data"
    assert machine.run(f"{as_nobody}/plain.txt") == "alpha"
    assert "Permission denied" in machine.run(f"{as_nobody}/theirs/secret.txt 2>&1", code=1)
    machine.run(f"systemctl kill --signal=KILL {MOUNT}")
    machine.wait("diff -r /srv/data /srv/yesterday/data")
    machine.run(f"systemctl disable --now {MOUNT} 2>&1")
    assert machine.run("findmnt -rnt fuse.nightvault", code=None) == ""


CASES = (
    the_page,
    what_the_page_tells,
    what_the_page_may_read,
    an_uninstallation,
    an_ordinary_user,
    an_uninstallation,
    timers,
    an_uninstallation,
    a_mount_at_every_start,
)
