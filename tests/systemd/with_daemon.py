"""Cases of a machine on which the daemon runs as root; each begins where the one before it ended."""

from __future__ import annotations

import json
import re

from tests.systemd.machine import Machine
from tests.systemd.site import CONFIG, CONFIG_FILE, KEY_FILE

UNIT = "nightvault.service"
WITH_KEY = "--key /root/recovery.key"
HOOK = "/usr/local/lib/probe"
IS_ASLEEP = "grep -qsx sleep /proc/[0-9]*/comm"
SLEEPS = '[job.hooks]\nbefore = ["/usr/bin/sleep", "600"]\n'

PROBE = """\
#!/bin/sh
exec >> "$NIGHTVAULT_STATE_DIR/probe.txt"
echo "$NIGHTVAULT_HOOK" $(id -u) $(grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status)
[ "$NIGHTVAULT_HOOK" = before ] || exit 0
may() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo "may: $name"; else echo "may not: $name"; fi; }
may "write to its state" touch "$NIGHTVAULT_STATE_DIR/touched"
may "write to a directory vault" touch /srv/vault/touched
may "write to its TMPDIR" mktemp
may "read what is another user's" cat /srv/data/theirs/secret.txt
may "write to a source" touch /srv/data/touched
may "write to /etc" touch /etc/touched
may "write to /tmp" touch /tmp/touched
may "write to /root" touch /root/touched
may "give away a file" chown 4321 "$NIGHTVAULT_STATE_DIR/touched"
may "mount" mount -t tmpfs none /mnt
may "set the clock" date -s 2020-01-01
may "have namespaces" unshare --mount true
rm -f "$NIGHTVAULT_STATE_DIR/touched" /srv/vault/touched "$TMPDIR"/tmp.*
"""


def commands_of(said: str) -> list[str]:
    """The commands that `install` tells an admin to give."""
    return [line.strip() for line in said.partition("now, as root:\n")[2].splitlines()]


def install(machine: Machine, *words: str, restart: str = "") -> str:
    """Install units, and give each command that it prints, as an admin does; what it printed.

    `restart` is a unit that runs already, and is to run as it was written anew before the others start.
    """
    said = machine.run(" ".join(["nightvault install --systemd", *words, "2>&1"]))
    commands = commands_of(said)
    assert commands, said
    *before, enable = commands
    for command in (*before, *([f"systemctl restart {restart}"] if restart else []), enable):
        there = f" || getent passwd {command.split()[-1]}" if command.startswith("useradd ") else ""
        machine.run(f"{command} 2>&1{there}")
    return said


def reload(machine: Machine, config: str) -> None:
    """Give the daemon another config, and wait until it has it."""
    mark = machine.mark()
    machine.write(CONFIG_FILE, config)
    machine.run(f"systemctl reload {UNIT}")
    machine.wait_for_word(mark, "the config was read again")


def wait_for_backups(machine: Machine, mark: str, unit: str = UNIT) -> str:
    """Wait until both jobs were backed up since the mark; what the unit said meanwhile."""
    said = machine.wait_for_word(mark, "job main: done", "job near: done", unit=unit)
    assert "got credentials for" in said
    return said


def an_installation(machine: Machine) -> None:
    """Units are written, and started as `install` says; systemd has nothing to say of them."""
    machine.run("systemctl start aws.service")
    machine.wait("journalctl --unit=aws.service --output=cat | grep -q rolesanywhere")
    machine.run("nightvault init --non-interactive --key-file /root/recovery.key 2>&1")
    mark = machine.mark()
    said = install(machine)
    assert re.findall(r"^written: .*/(.*)$", said, re.MULTILINE) == [
        *("nightvault.service", "nightvault-restore@.service"),
        *("nightvault-overdue.service", "nightvault-overdue.timer"),
    ]
    assert machine.run("systemd-analyze verify /etc/systemd/system/nightvault* 2>&1") == ""
    assert machine.run("systemctl is-active nightvault.service nightvault-overdue.timer") == "active\nactive"
    assert "started with 2 tasks" in machine.said(mark)
    assert machine.run("nightvault install --systemd 2>&1 | grep -c ^as.it.is:") == "4"


def scheduled_backups(machine: Machine) -> None:
    """By certificate into an emulated AWS, and onto a disk; also of files that only their owner may read."""
    wait_for_backups(machine, machine.mark())
    machine.run(f"nightvault restore latest --job near --target /root/out {WITH_KEY} 2>&1")
    machine.run("diff -r /srv/data /root/out/srv/data")
    assert machine.run("stat -c %u:%a /root/out/srv/data/theirs") == "4321:700"
    machine.run("rm -r /root/out")
    fields = machine.run("journalctl NIGHTVAULT_JOB=near NIGHTVAULT_VAULT=disk --output=cat")
    assert "job near: done in" in fields


def hooks_in_the_sandbox(machine: Machine) -> None:
    """They may do what files.md says, and nothing else."""
    machine.write(HOOK, PROBE, "0755")
    names = ("before", "after", "on_failure", "finally")
    reload(machine, CONFIG + "[job.hooks]\n" + "".join(f'{name} = ["{HOOK}"]\n' for name in names))
    mark = machine.mark()
    machine.run("nightvault run near 2>&1")
    machine.wait_for_word(mark, "job near: done")
    reload(machine, CONFIG)
    told = machine.run("cat /var/lib/nightvault/probe.txt; rm /var/lib/nightvault/probe.txt").splitlines()
    rights = "0 CapEff: 000000000000000c NoNewPrivs: 1 Seccomp: 2"  # CAP_DAC_READ_SEARCH, CAP_FOWNER
    assert [line.rstrip() for line in told if "may" not in line.split(":")[0]] == [
        *(f"before {rights}", f"after {rights}", f"finally {rights}"),
    ]
    assert [line for line in told if line.startswith("may: ")] == [
        *("may: write to its state", "may: write to a directory vault", "may: write to its TMPDIR"),
        "may: read what is another user's",
    ]
    assert sum(line.startswith("may not: ") for line in told) == 8
    assert machine.run("ls /tmp /etc /srv/data /root | grep -c touched", code=1) == "0"


def a_kill_in_a_run(machine: Machine) -> None:
    """Nothing of it is left, it is back after seconds, and what was cut off is done again."""
    mark = _in_a_hook(machine)
    machine.run(f"systemctl kill --signal=KILL --kill-whom=main {UNIT}")
    machine.write(CONFIG_FILE, CONFIG)
    said = machine.wait_for_word(mark, "started with 2 tasks", "job near: done")
    assert "Main process exited, code=killed, status=9/KILL" in said
    assert "Failed with result 'signal'" in said
    machine.run(f"! {IS_ASLEEP}")
    assert machine.run(f"systemctl show {UNIT} --property=NRestarts") == "NRestarts=1"
    assert "interrupted" in machine.run("nightvault runs --job near --limit 5")


def a_restart_in_a_run(machine: Machine) -> None:
    """It ends in time, with its hook, and what was stopped is done again."""
    mark = _in_a_hook(machine)
    machine.write(CONFIG_FILE, CONFIG)
    machine.run(f"systemctl restart {UNIT}")
    machine.run(f"! {IS_ASLEEP}")
    said = machine.wait_for_word(mark, "started with 2 tasks", "job near: done")
    assert f"{UNIT}: Deactivated successfully." in said
    assert "Killing" not in said


def _in_a_hook(machine: Machine) -> str:
    """Have a run of `near` wait in a hook; a mark from before it."""
    reload(machine, CONFIG + SLEEPS)
    mark = machine.mark()
    machine.run("nightvault run near 2>&1")
    machine.wait(IS_ASLEEP)
    return mark


def a_daemon_that_hangs(machine: Machine) -> None:
    """No sign of life comes from it any more: systemd ends it and begins it again."""
    place = f"/etc/systemd/system/{UNIT}.d/watchdog.conf"
    assert "WatchdogUSec=10min" in machine.run(f"systemctl show {UNIT} --property=WatchdogUSec")
    machine.write(place, "[Service]\nWatchdogSec=15s\n", "0644")
    machine.run(f"systemctl daemon-reload; systemctl restart {UNIT}")
    mark = machine.mark()
    machine.run(f"kill -STOP $(systemctl show {UNIT} --property=MainPID --value)")
    said = machine.wait_for_word(mark, "Watchdog timeout", "started with 2 tasks")
    assert "Failed with result 'watchdog'" in said
    machine.run(f"rm -r $(dirname {place}); systemctl daemon-reload; systemctl restart {UNIT}")


def a_clock_set_forward_and_a_restore(machine: Machine) -> None:
    """What was missed is made up for once; a restore that waited goes on in a unit of its own."""
    wait_for_backups(machine, machine.mark())
    machine.run(f"nightvault restore latest --job main --target /srv/back {WITH_KEY} 2>&1", code=17)
    (open_one,) = json.loads(machine.run("nightvault --json restores"))
    unit = f"nightvault-restore@{open_one['id']}.service"
    mark = machine.mark()
    machine.run("timedatectl set-time \"$(date -d '+6 hours' '+%F %T')\"")
    said = wait_for_backups(machine, mark)
    assert said.count("job near: begins") <= 3, said
    machine.wait(f"diff -r /srv/data /srv/back/srv/data && ! systemctl is-active {unit}")
    assert machine.run("stat -c %u:%a /srv/back/srv/data/theirs") == "4321:700"
    assert f"{unit}: Deactivated successfully" in machine.said(mark, unit)
    machine.run("rm -r /srv/back")


def a_reboot_with_a_clock_behind(machine: Machine) -> None:
    """It is all up again, and the daemon waits for the clock."""
    machine.run("timedatectl set-time \"$(date -d '-6 hours' '+%F %T')\"")
    machine.reboot()
    assert machine.run("systemctl --failed --no-legend --plain") == ""
    machine.wait(f"systemctl show {UNIT} --property=StatusText | grep -qF 'waits for this machine'")


def a_clock_that_is_set_late(machine: Machine) -> None:
    """What waits for it is told until then; then backups go on."""
    assert "waits for this machine's clock to be set" in machine.run("nightvault status 2>&1", code=1)
    mark = machine.mark()
    machine.run("timedatectl set-time \"$(date -d '+6 hours' '+%F %T')\"")
    said = wait_for_backups(machine, mark)
    assert "this machine's clock was set: it is" in said


def a_key_from_a_credential(machine: Machine) -> None:
    """Systemd hands the key over, encrypted with the machine's own; nobody else has it."""
    store = "/etc/credstore.encrypted/web1.key"
    machine.run(
        "mkdir -p -m 0700 /etc/credstore.encrypted; systemd-creds setup >/dev/null 2>&1;"
        f"systemd-creds encrypt --name=web1.key {KEY_FILE} {store} 2>&1; rm {KEY_FILE}"
    )
    machine.write(CONFIG_FILE, CONFIG.replace(KEY_FILE, "credential:web1.key"))
    said = install(machine, restart=UNIT)
    assert said.count("replaced: ") == 3, said
    wait_for_backups(machine, machine.mark())
    assert machine.run("grep -l PRIVATE -r /etc/nightvault /etc/credstore.encrypted", code=1) == ""
    machine.run("systemctl start nightvault-overdue.service")


CASES = (
    an_installation,
    scheduled_backups,
    hooks_in_the_sandbox,
    a_kill_in_a_run,
    a_restart_in_a_run,
    a_daemon_that_hangs,
    a_clock_set_forward_and_a_restore,
    a_reboot_with_a_clock_behind,
    a_clock_that_is_set_late,
    a_key_from_a_credential,
)
