"""docs/install.md: commands that need root, a registry or systemd are shown; what they suppose holds."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

from tests.pages.page import SHOWN, blocks_of
from tests.support.emulated import REPOSITORY
from tests.support.servers import directory_server

PAGE = REPOSITORY / "docs" / "install.md"
WHEEL = "nightvault-0.3.0-py3-none-any.whl"
OLDER = "nightvault-0.2.0-py3-none-any.whl"
"""What an upgrade is taken back to, in docs/operations.md."""
NOT_RUN = f"""\
# apt install ./nightvault_*.deb
# nightvault version
$ make packages PACKAGES_ARGS="--key backups@example.org"
# cp nightvault.gpg /usr/share/keyrings/
$ make venv
$ .venv/bin/hatchling build -t wheel
# apt install python3-venv
# python3 -m venv /opt/nightvault
# /opt/nightvault/bin/pip install {WHEEL}
# ln -s /opt/nightvault/bin/nightvault /usr/local/bin/nightvault
# nightvault version
$ uv tool install ./{WHEEL}
$ pipx install ./{WHEEL}
# pipx install --global ./{WHEEL}
# mkdir -p /usr/local/share/man/man1
# ln -s /opt/nightvault/share/man/man1/*.1 /usr/local/share/man/man1/
# nightvault completion bash > /etc/bash_completion.d/nightvault
# nightvault completion zsh > /usr/local/share/zsh/site-functions/_nightvault
# nightvault completion fish > /etc/fish/completions/nightvault.fish
# nightvault install --systemd --print | less
# nightvault install --systemd
# systemctl enable --now nightvault.service nightvault-overdue.timer
# journalctl -u nightvault -f
"""
UNITS = sorted((REPOSITORY / "deploy" / "systemd").glob("*.service"))


def unit(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(path.read_text())
    return parser


def test_commands_that_are_only_shown() -> None:
    """None is added unseen."""
    assert "".join(block.text for block in blocks_of(PAGE) if block.language == SHOWN) == NOT_RUN
    assert {block.language for block in blocks_of(PAGE)} == {SHOWN}


def test_units_find_the_command_where_the_page_puts_it() -> None:
    """The link that the page makes is what each unit starts."""
    (link,) = (line for line in NOT_RUN.splitlines() if line.startswith("# ln -s") and "/bin/" in line)
    command = link.split()[-1]
    assert UNITS
    for path in UNITS:
        assert unit(path)["Service"]["ExecStart"].split()[0] == command, path.name


def test_what_the_page_has_enabled_is_what_install_says(tmp_path: Path) -> None:
    server = directory_server(tmp_path)
    server.init()
    shown = server.done("install", "--systemd", "--directory", tmp_path / "units").stdout
    (enable,) = (line.removeprefix("# ") for line in NOT_RUN.splitlines() if "systemctl enable" in line)
    assert shown.splitlines()[-1].strip() == enable
    for words in re.findall(r"`install (--systemd[^`]*)`", PAGE.read_text()):
        server.done("install", *words.split(), "--directory", tmp_path / words.replace(" ", ""))


def test_the_version_is_todays() -> None:
    import backup

    assert f"nightvault-{backup.__version__.partition('.dev')[0]}-" in WHEEL
    for name in ("install", "operations", "tutorial"):
        wheels = re.findall(r"nightvault-[\d.]+-py3-none-any\.whl", (PAGE.parent / f"{name}.md").read_text())
        assert set(wheels) - {OLDER} == {WHEEL}, name


def test_the_room_of_a_pack_is_what_the_config_has() -> None:
    """Disk needs are told, and true."""
    from backup.config.vaults import VaultSettings
    from backup.model import MIB, VaultName

    glacier = VaultSettings(name=VaultName("a"), kind="glacier").pack_size // MIB
    bucket = VaultSettings(name=VaultName("a"), kind="s3").pack_size // MIB
    told = PAGE.read_text()
    for kind, size in (("Glacier vault", glacier), ("bucket", bucket)):
        assert f"{3 * size} MiB for a {kind} ({size} MiB each)" in told
