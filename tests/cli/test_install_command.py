"""`install` and `uninstall`: units that systemd takes, with this machine's paths; no human's work is lost."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from backup.app.machine import units
from tests.support.command_line import run
from tests.support.servers import SCRIPT, Server, directory_server, replace

VARIANTS = {
    "daemon": (),
    "timers": ("--timers",),
    "unprivileged": ("--unprivileged",),
    "unprivileged timers": ("--unprivileged", "--timers"),
    "user": ("--user",),
    "user timers": ("--user", "--timers"),
}
STARTED = ("nightvault-overdue.service", "nightvault-overdue.timer", "nightvault.service")
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return directory_server(tmp_path)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "units"


def analyze(*words: object) -> subprocess.CompletedProcess[str]:
    line = ["systemd-analyze", "--no-pager", *map(str, words)]
    environ = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "XDG_RUNTIME_DIR": "/run"}
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environ)


def texts(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(directory.iterdir())}


def install(server: Server, directory: Path, *words: str) -> None:
    server.done("install", "--systemd", "--directory", directory, *words)


@needs_systemd
@pytest.mark.parametrize("words", VARIANTS.values(), ids=VARIANTS)
def test_systemd_takes_what_is_written(words: tuple[str, ...], server: Server, directory: Path) -> None:
    install(server, directory, *words)
    scope = ["--user"] if "--user" in words else []
    done = analyze(*scope, "verify", "--man=no", *sorted(directory.iterdir()))
    told = [line for line in done.stderr.splitlines() if "nightvault" in line]
    assert (done.returncode, told) == (0, []), done.stderr
    if "--unprivileged" in words:
        for path in directory.glob("*.service"):
            found = re.search(
                r"exposure level for \S+: ([\d.]+)", analyze("security", "--offline=true", path).stdout
            )
            assert found is not None
            assert float(found[1]) <= (2.0 if path.name == "nightvault-unprivileged.service" else 2.8)


@pytest.mark.parametrize("words", VARIANTS.values(), ids=VARIANTS)
def test_print_shows_all_that_would_be_written(
    words: tuple[str, ...], server: Server, directory: Path
) -> None:
    shown = server.done("install", "--systemd", "--directory", directory, "--print", *words).stdout
    documents = server.json("install", "--systemd", "--directory", directory, "--print", *words)
    assert not directory.exists()
    install(server, directory, *words)
    written = texts(directory)
    assert {Path(document["path"]).name: document["text"] for document in documents} == written
    assert {document["was"] for document in documents} == {"new"}
    for name, text in written.items():
        assert f"# {directory / name}\n{text}" in shown
    assert all(path.stat().st_mode & 0o777 == 0o644 for path in directory.iterdir())


def test_the_paths_of_this_machine_are_filled_in(server: Server, directory: Path) -> None:
    metrics = f'[monitoring]\nmetrics_file = "{server.folder}/metrics here/nightvault.prom"\n'
    server.config.write_text(metrics + server.config.read_text())
    install(server, directory)
    unit = (directory / "nightvault.service").read_text()
    assert f"\nExecStart={SCRIPT} --config {server.config} daemon\n" in unit
    assert f"\nExecStopPost=-{SCRIPT} --config {server.config} unlock\n" in unit
    assert f"\nReadWritePaths={server.state}\nEnvironment=TMPDIR={server.state}\n" in unit
    assert (
        f'\nReadWritePaths=-"{server.folder}/metrics here"\nReadWritePaths=-{server.folder}/vault\n' in unit
    )
    assert "/var/lib/nightvault" not in unit
    assert "StateDirectory" not in unit
    overdue = (directory / "nightvault-overdue.service").read_text()
    assert f"\nExecStart={SCRIPT} --config {server.config} --quiet status --overdue" in overdue
    assert "CAP_SETUID" not in "".join(texts(directory).values())


def test_what_a_config_needs_is_allowed_and_no_more(server: Server, directory: Path) -> None:
    identity = '[identity]\ncertificate = "/etc/x.pem"\nprivate_key = "credential:web1.key"\n'
    command = '[[job.command]]\nname = "db"\nrun = ["/bin/true"]\nuser = "nobody"\n'
    server.config.write_text(f'{identity}{server.config.read_text()}devices = ["/dev/vg0/root"]\n{command}')
    install(server, directory)
    root = (directory / "nightvault.service").read_text()
    assert "\nLoadCredential=web1.key:/etc/credstore/web1.key\n" in root
    assert "\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH CAP_FOWNER CAP_SETUID CAP_SETGID\n" in root
    assert "CAP_SETUID" not in (directory / "nightvault-overdue.service").read_text()
    install(server, directory, "--unprivileged")
    ordinary = (directory / "nightvault-unprivileged.service").read_text()
    assert "\nDevicePolicy=closed\nDeviceAllow=/dev/vg0/root r\n" in ordinary
    assert "PrivateDevices" not in ordinary
    assert "CAP_SETUID" not in ordinary  # only root may run a command as another user


@needs_systemd
@pytest.mark.parametrize("name", ["a b", "100%", "$HOME", "semi;colon", "ünï"])
def test_odd_paths_come_to_systemd_as_they_are(
    name: str, server: Server, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`verify` looks whether the program can be run: it finds the very path, or says so."""
    program = server.folder / name / "nightvault"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.argv", [str(program)])
    install(server, directory)
    done = analyze("verify", "--man=no", directory / "nightvault.service")
    assert done.returncode == 0, done.stderr
    config = server.folder / name / "config.toml"
    config.write_text(server.config.read_text())
    words = ("install", "--systemd", "--directory", server.folder / "other")
    assert run("--config", config, *words).exit_code == 0
    (line,) = re.findall(
        "^ExecStart=(.*)$", (server.folder / "other" / "nightvault.service").read_text(), re.MULTILINE
    )
    assert shlex.split(line)[2].replace("$$", "$").replace("%%", "%") == str(config)
    program.unlink()
    assert "not executable" in analyze("verify", "--man=no", directory / "nightvault.service").stderr


def test_a_path_that_systemd_would_not_start_is_refused(
    server: Server, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = server.folder / 'say "hi"' / "nightvault"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.argv", [str(program)])
    assert "make a link" in server.fails(1, "install", "--systemd", "--directory", directory)
    assert not directory.exists()


def test_again_it_changes_nothing_and_follows_the_config(server: Server, directory: Path) -> None:
    install(server, directory, "--timers")
    before = texts(directory)
    again = server.done("install", "--systemd", "--directory", directory, "--timers")
    assert "written" not in again.stderr
    assert again.stderr.count("as it is: ") == len(before) == 4
    replace(server, '"every 6h"', '"daily at 04:15"\njitter = "20m"\ncatch_up = "skip"')
    changed = server.done("install", "--systemd", "--directory", directory, "--timers")
    assert f"replaced: {directory}/nightvault-backup@main.timer" in changed.stderr
    timer = texts(directory)["nightvault-backup@main.timer"]
    assert "\nOnCalendar=*-*-* 04:15:00 " in timer
    assert "\nRandomizedDelaySec=1200s\nPersistent=false\n" in timer


def test_what_somebody_changed_is_not_replaced_without_a_word(server: Server, directory: Path) -> None:
    install(server, directory)
    unit = directory / "nightvault.service"
    unit.write_text(unit.read_text().replace("Nice=10", "Nice=5"))
    (directory / "nightvault-overdue.timer").unlink()
    before = texts(directory)
    told = server.fails(1, "install", "--systemd", "--directory", directory)
    assert str(unit) in told
    assert "--replace" in told
    assert texts(directory) == before  # nor was anything else written
    unit.unlink()
    unit.symlink_to("/dev/null")  # as `systemctl mask` does
    assert str(unit) in server.fails(1, "install", "--systemd", "--directory", directory)
    server.done("install", "--systemd", "--directory", directory, "--replace")
    assert "\nNice=10\n" in unit.read_text()
    assert not unit.is_symlink()


def test_uninstall_removes_what_install_wrote_and_nothing_else(server: Server, directory: Path) -> None:
    install(server, directory)
    install(server, directory, "--timers")
    mine = directory / "nightvault-serve.service"
    mine.write_text("[Service]\nExecStart=/bin/true\n")
    changed = directory / "nightvault.service"
    changed.write_text(changed.read_text() + "# mine\n")
    result = server.run("uninstall", "--systemd", "--directory", directory)
    assert result.exit_code == 3
    assert sorted(texts(directory)) == [mine.name, changed.name]
    assert f"left, as somebody wrote or changed it: {changed}" in result.stderr
    assert server.config.exists()
    mine.unlink()
    changed.unlink()
    assert "none of ours" in server.done("uninstall", "--systemd", "--directory", directory).stderr


def test_without_an_inventory_it_says_what_comes_first(server: Server, directory: Path) -> None:
    shown = server.done("install", "--systemd", "--directory", directory, "--unprivileged").stdout
    assert [line.split()[0] for line in shown.splitlines()[1:]] == [
        "nightvault",
        "useradd",
        "chown",
        "systemctl",
    ]
    server.init()
    shown = server.done("install", "--systemd", "--directory", directory).stdout
    assert shown == "now, as root:\n  systemctl enable --now nightvault.service nightvault-overdue.timer\n"
    warned = server.done("install", "--systemd", "--directory", directory, "--timers").stderr
    assert "systemctl disable --now nightvault.service" in warned


@pytest.mark.parametrize("group", ["nightvault-web", "backup-page"])
@pytest.mark.parametrize("options", [(), ("--unprivileged",)])
def test_with_a_page_it_says_which_users_it_needs(
    group: str, options: tuple[str, ...], server: Server, directory: Path
) -> None:
    server.init()
    with server.config.open("a") as config:
        config.write(f'[web]\ngroup = "{group}"\n')
    shown = server.done("install", "--systemd", "--directory", directory, *options).stdout.splitlines()[1:]
    add = "useradd --system --home-dir {} --shell /usr/sbin/nologin {}"
    told = [add.format("/nonexistent", "nightvault-web")]
    if group != "nightvault-web":
        told.append(f"usermod --append --groups {group} nightvault-web")
    if options:
        told.append(add.format(server.state, "nightvault"))
        told.append(f"usermod --append --groups {group} nightvault")
    assert [line.strip() for line in shown][: len(told)] == told
    assert "nightvault-web.service" in shown[-1]
    timers = server.done("install", "--systemd", "--directory", server.folder / "t", "--timers", *options)
    assert "nightvault-web" not in timers.stdout


def test_what_runs_is_restarted_where_its_unit_has_changed(server: Server, directory: Path) -> None:
    """A daemon goes by what it began with: the page, credentials and paths come to it by a restart alone."""
    server.init()
    words = ("install", "--systemd", "--directory", directory)
    assert "try-restart" not in server.done(*words).stdout
    assert "try-restart" not in server.done(*words).stdout
    with server.config.open("a") as config:
        config.write("[web]\n")
    shown = server.done(*words).stdout.splitlines()
    assert shown[-2].strip() == "systemctl try-restart nightvault.service"
    assert shown[-1].strip().startswith("systemctl enable --now nightvault.service")


def test_a_user_that_is_there_is_not_made_again(
    server: Server, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.init()
    monkeypatch.setattr(pwd, "getpwnam", lambda _: None)
    assert (
        "useradd"
        not in server.done("install", "--systemd", "--directory", directory, "--unprivileged").stdout
    )


def test_a_timer_of_a_job_that_is_gone_is_named(server: Server, directory: Path) -> None:
    install(server, directory, "--timers")
    replace(server, '[[job]]\nname = "main"', '[[job]]\nname = "other"')
    warned = server.done("install", "--systemd", "--directory", directory, "--timers").stderr
    assert "disable --now nightvault-backup@main.timer" in warned
    assert "nightvault-backup@other.timer is still" not in warned


def test_with_a_unit_goes_the_link_that_enabled_it(server: Server, directory: Path) -> None:
    """Also where no systemctl does that: in a chroot, or an image."""
    install(server, directory)
    wants = directory / "multi-user.target.wants"
    wants.mkdir()
    (wants / "nightvault.service").symlink_to(directory / "nightvault.service")
    (wants / "ssh.service").symlink_to("/lib/systemd/system/ssh.service")
    server.done("uninstall", "--systemd", "--directory", directory)
    assert [path.name for path in wants.iterdir()] == ["ssh.service"]


def test_usage(server: Server, directory: Path) -> None:
    assert "--systemd" in server.fails(2, "install", "--directory", directory)
    assert "--systemd" in server.fails(2, "uninstall", "--directory", directory)
    server.fails(2, "install", "--systemd", "--user", "--unprivileged", "--directory", directory)
    replace(server, 'schedule = "every 6h"\n', "")
    assert "no job has a schedule" in server.fails(
        2, "install", "--systemd", "--timers", "--directory", directory
    )
    assert not directory.exists()


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's own service manager, that notes in `asked` beside this program what it is asked for."""
    program = tmp_path / "bin" / "systemctl"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >> {program.parent}/asked\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(units, "BOOTED", str(tmp_path))
    return program


def test_uninstall_ends_backups_that_timers_began_and_forgets_their_times(
    server: Server, systemctl: Path
) -> None:
    """Such a backup went on without its unit, and one that had failed stayed in `systemctl --failed`."""
    server.done("install", "--systemd", "--user", "--timers")
    server.done("uninstall", "--systemd", "--user")
    timers = "nightvault-backup@main.timer nightvault-overdue.timer"
    single = "nightvault-backup@main.timer nightvault-overdue.service nightvault-overdue.timer"
    asked = systemctl.with_name("asked").read_text().replace("--user --no-ask-password ", "").splitlines()
    assert sorted(asked[1].split()) == sorted(f"disable --now {single}".split())
    assert asked[2] == "stop nightvault-backup@*.service"
    assert asked[3] == f"clean --what=state {timers}"
    assert sorted(asked[4].split()) == sorted(f"reset-failed {single} nightvault-backup@*.service".split())


def test_systemd_is_asked_only_where_it_runs(
    server: Server, systemctl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program, log = systemctl, systemctl.with_name("asked")
    monkeypatch.setattr(units, "BOOTED", str(tmp_path / "none"))
    server.done("install", "--systemd", "--user")
    assert (tmp_path / "config" / "systemd" / "user" / "nightvault.service").exists()
    assert not log.exists()
    server.done("uninstall", "--systemd", "--user")
    monkeypatch.setattr(units, "BOOTED", str(tmp_path))
    server.done("install", "--systemd", "--user")
    server.done("install", "--systemd", "--user")  # nothing new: nothing to be read again
    server.done("uninstall", "--systemd", "--user")
    assert log.read_text().splitlines() == [
        "--user --no-ask-password daemon-reload",
        f"--user --no-ask-password disable --now {' '.join(STARTED)}",
        "--user --no-ask-password clean --what=state nightvault-overdue.timer",
        f"--user --no-ask-password reset-failed {' '.join(STARTED)}",
        "--user --no-ask-password daemon-reload",
    ]
    program.write_text("#!/bin/sh\necho 'no bus' >&2\nexit 1\n")
    assert "systemd did not read them: no bus" in server.done("install", "--systemd", "--user").stderr
