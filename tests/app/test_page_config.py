"""The page's config: everything that pages show, and nothing of what is secret or a command."""

from __future__ import annotations

import stat
from pathlib import Path

import msgspec
import pytest
import tomlkit

from backup.app.machine.page_config import PAGE_CONFIG, page_document, remove_page_config, write_page_config
from backup.config import load_config
from backup.config.limits import deletes_here
from tests.support.emulated import REPOSITORY

SECRET = "s3cr3t"
MORE = f"""
[notify]
quiet_hours = "22:00-07:00"

[[notify.channel]]
name = "phone"
kind = "ntfy"
url = "https://ntfy.example.org/{SECRET}"

[[drill]]
name = "weekly"
schedule = "weekly"
vault = "cold"
sample = "20 files"

[web]
listen = "127.0.0.1:1"
accounts = "own/accounts.sqlite"
"""
SHOWN = "name vault schedule zone jitter catch_up retry policy forget_when"
HOOKS = f"""
[job.hooks]
before = ["/usr/local/bin/quiesce", "{SECRET}"]

[[job.command]]
name = "shop.dump"
run = ["pg_dump", "--dbname=postgresql://shop:{SECRET}@localhost/shop"]
environment = {{ PGPASSWORD = "{SECRET}" }}
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The example, with more of everything, in a place of its own."""
    text = (REPOSITORY / "config.example.toml").read_text().replace("/var/lib/nightvault", "state")
    head, job, rest = text.rpartition("[[job]]")
    path = tmp_path / "config.toml"
    path.write_text(MORE.join([head, ""]) + job + rest + HOOKS)
    (tmp_path / "state").mkdir()
    return path


def test_no_secret_command_role_or_key_is_in_it(written: Path, tmp_path: Path) -> None:
    config = load_config(str(written))
    assert SECRET in written.read_text()
    write_page_config(config)
    path = tmp_path / "state" / PAGE_CONFIG
    text = path.read_text()
    for word in (
        SECRET,
        "123456789012",
        "hooks",
        "run =",
        "identity.key",
        "channel",
        "/srv/www",
        "recipients",
    ):
        assert word not in text, word
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    remove_page_config(config)
    assert not path.exists()


def test_pages_show_the_same_by_it(written: Path, tmp_path: Path) -> None:
    whole = load_config(str(written))
    write_page_config(whole)
    found = load_config(str(tmp_path / "state" / PAGE_CONFIG))
    assert (found.state_dir, found.inventory_url) == (whole.state_dir, whole.inventory_url)
    assert found.web == whole.web
    assert found.web is not None
    assert found.web.accounts == str(tmp_path / "own" / "accounts.sqlite")
    assert (found.drills, found.prices, found.restore) == (whole.drills, whole.prices, whole.restore)
    assert whole.identity is not None
    assert found.identity is not None
    assert found.identity.certificate == whole.identity.certificate
    roles = {"role_arn": None, "restore_role_arn": None, "prune_role_arn": None}
    for mine, theirs in zip(found.vaults, whole.vaults, strict=True):
        deletes = "here" if deletes_here(whole, theirs) else "elsewhere"
        expected = msgspec.structs.replace(theirs, **roles, deletes=deletes)
        assert msgspec.structs.replace(mine, **roles) == expected
    for job, as_written in zip(found.jobs, whole.jobs, strict=True):
        for name in SHOWN.split():
            assert getattr(job, name) == getattr(as_written, name), name


def test_every_setting_is_given_or_kept_back_on_purpose(written: Path) -> None:
    """A section that nobody has decided about stays away."""
    document = page_document(load_config(str(written)))
    assert set(document) == {
        *(
            "state",
            "inventory",
            "prices",
            "restore",
            "monitoring",
            "web",
            "retention",
            "drill",
            "vault",
            "job",
        ),
        "identity",
    }
    assert tomlkit.parse(tomlkit.dumps(document)) == document


@pytest.mark.parametrize("certificate", ["web1.pem", "pkcs11:token=web1"])
def test_a_vault_that_is_not_set_up_yet_is_no_mistake_there(tmp_path: Path, certificate: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        f'[state]\ndir = "state"\n[identity]\ncertificate = "{certificate}"\nprivate_key = "web1.key"\n'
        '[[vault]]\nname = "ice"\nkind = "s3"\nregion = "eu-central-1"\n'
    )
    (tmp_path / "state").mkdir()
    write_page_config(load_config(str(path)))
    config = load_config(str(tmp_path / "state" / PAGE_CONFIG))
    (vault,) = config.vaults
    assert config.gaps_of(vault) == (("bucket", "role_arn") if config.identity else ())
