"""The config: the example loads, paths become absolute, the file is found, unsafe settings are warned of."""

from __future__ import annotations

import os
import re
from pathlib import Path
from zoneinfo import ZoneInfoNotFoundError

import pytest
import tzlocal

from backup.cli.support.config_warnings import warnings_of
from backup.config import (
    find_config,
    load_config,
)
from backup.errors import ConfigError
from backup.model import MIB, Tier
from tests.config.config_texts import (
    BUCKET,
    DIRECTORY,
    GLACIER,
    IDENTITY,
    JOB,
    load,
    mistakes,
)

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def test_the_example_loads() -> None:
    config = load_config(str(EXAMPLE))
    assert [(vault.name, vault.kind) for vault in config.vaults] == [
        ("cold", "glacier"),
        ("bucket", "s3"),
        ("disk", "directory"),
    ]
    assert [job.name for job in config.jobs] == ["etc", "home"]
    assert all(job.when for job in config.jobs)
    assert config.job("home").exclude == ("*.tmp", ".cache/", "node_modules/")


def test_every_line_that_the_example_comments_out_is_valid(tmp_path: Path) -> None:
    text = re.sub(r"^# (\[|[a-z0-9_]+ = )", r"\1", EXAMPLE.read_text(), flags=re.MULTILINE)
    config = load(tmp_path, text)
    assert config.inventory_url == "sqlite:////var/lib/nightvault/inventory.sqlite"
    assert config.roles_anywhere is not None
    assert config.roles_anywhere.role_session_name == "web1"


def test_the_example_shows_the_defaults_as_they_are(tmp_path: Path) -> None:
    config = load(tmp_path, DIRECTORY + JOB)
    vault, job = config.vault("disk"), config.job("etc")
    assert config.state_dir == "/var/lib/nightvault"
    assert config.inventory_url == "sqlite:////var/lib/nightvault/inventory.sqlite"
    assert (vault.pack_size, vault.part_size, vault.tier) == (224 * MIB, 32 * MIB, Tier.STANDARD)
    assert (vault.account_id, job.compression_level) == ("-", None)
    assert (job.exclude_caches, job.one_file_system, job.schedule, job.when) == (False, False, None, None)
    assert (config.identity, config.roles_anywhere, config.recipients) == (None, None, ())


def test_an_empty_file_is_a_config(tmp_path: Path) -> None:
    config = load(tmp_path, "")
    assert (config.vaults, config.jobs) == ((), ())


def test_paths_count_from_the_file_and_may_begin_with_a_tilde(tmp_path: Path) -> None:
    text = '[state]\ndir = "../state"\n' + IDENTITY.replace('"a.crt"', '"~/a.crt"')
    config = load(tmp_path, text + DIRECTORY)
    assert config.identity is not None
    assert config.state_dir == str(tmp_path.parent / "state")
    assert config.inventory_url == f"sqlite:///{tmp_path.parent}/state/inventory.sqlite"
    assert config.identity.certificate == os.path.expanduser("~/a.crt")
    assert config.identity.private_key == str(tmp_path / "a.key")
    assert config.vault("disk").path == str(tmp_path / "disk")


def test_a_bucket_has_what_its_kind_needs(tmp_path: Path) -> None:
    vault = load(tmp_path, BUCKET).vault("frozen")
    assert (vault.bucket, vault.prefix, vault.storage_class) == ("some-bucket", "", "DEEP_ARCHIVE")
    assert (vault.pack_size, vault.part_size) == (64 * MIB, 32 * MIB)
    elsewhere = BUCKET.replace("eu-central-1", "fr-par") + 'endpoint = "https://s3.fr-par.example"'
    assert load(tmp_path, IDENTITY + elsewhere).vault("frozen").role_arn is None


def test_a_vault_that_is_not_set_up_in_aws_yet_is_none_of_the_mistakes(tmp_path: Path) -> None:
    nameless = BUCKET.replace('bucket = "some-bucket"\n', "")
    assert nameless != BUCKET
    config = load(tmp_path, IDENTITY + nameless)
    assert config.gaps_of(config.vault("frozen")) == ("bucket", "role_arn")
    role = f'role_arn = "arn:aws:iam::{"1" * 12}:role/x"\n'
    config = load(tmp_path, IDENTITY + BUCKET + role)
    assert config.gaps_of(config.vault("frozen")) == ()
    config = load(tmp_path, IDENTITY + BUCKET + f"prune_{role}")
    assert config.gaps_of(config.vault("frozen")) == ("role_arn",)
    for text in (nameless, IDENTITY + nameless + 'endpoint = "https://s3.example"'):
        with pytest.raises(ConfigError, match="bucket: is missing"):
            load(tmp_path, text)


@pytest.mark.parametrize(
    ("written", "size"),
    [("4194304", 4 * MIB), ('"4MiB"', 4 * MIB), ('"4096 KiB"', 4 * MIB), ('"1GiB"', 1024 * MIB)],
)
def test_sizes_are_bytes_or_have_a_unit(tmp_path: Path, written: str, size: int) -> None:
    config = load(tmp_path, f"{DIRECTORY}part_size = {written}\npack_size = {written}")
    assert config.vault("disk").part_size == config.vault("disk").pack_size == size


def test_the_time_zone_of_the_machine_stands_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "America/New_York")
        tzlocal.reload_localzone()
        when = load(tmp_path, DIRECTORY + JOB + 'schedule = "daily at 02:30"').job("etc").when
    tzlocal.reload_localzone()
    assert when is not None
    assert when.timezone == "America/New_York"


def test_a_machine_that_names_two_time_zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unclear() -> str:
        raise ZoneInfoNotFoundError("two of them")

    monkeypatch.setattr("tzlocal.get_localzone_name", unclear)
    job = load(tmp_path, DIRECTORY + JOB + 'schedule = "every 1h"').job("etc")
    with pytest.raises(ConfigError, match=r"time zone is unclear: .*two of them"):
        _ = job.when


def test_recipients_are_read(tmp_path: Path) -> None:
    from backup.format.keys import RecoveryKey

    text = RecoveryKey(bytes(range(32))).recipient.to_text()
    assert load(tmp_path, f'[encryption]\nrecipients = ["{text}"]').recipients == (text,)
    twice = mistakes(tmp_path, f'[encryption]\nrecipients = ["{text}", "{text}"]')
    assert "encryption.recipients[2]: is written twice" in twice


def test_recipients_may_lie_in_files(tmp_path: Path) -> None:
    """They have two thousand characters; whoever may write the file would have backups sealed for himself."""
    from backup.format.keys import RecoveryKey

    one, two = (RecoveryKey(bytes([number] * 32)).recipient.to_text() for number in (1, 2))
    file = tmp_path / "office.recipient"
    file.write_text(f"{one}\n\n{two}\n")
    text = '[encryption]\nrecipients = ["file:office.recipient"]'
    assert load(tmp_path, text).recipients == (one, two)
    file.chmod(0o666)
    assert "others could have backups sealed for a key of theirs" in mistakes(tmp_path, text)
    file.chmod(0o600)
    file.write_text("\n")
    assert "it holds no recipient" in mistakes(tmp_path, text)
    file.write_text("nvr1wrong\n")
    assert "encryption.recipients[1]" in mistakes(tmp_path, text)
    file.unlink()
    assert "office.recipient: cannot be read: No such file" in mistakes(tmp_path, text)


def test_the_order_of_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system, home = tmp_path / "system.toml", tmp_path / "home"
    monkeypatch.setattr("backup.config.reading.SYSTEM_CONFIG", str(system))
    environ = {"HOME": str(home), "NIGHTVAULT_CONFIG": str(tmp_path / "named.toml")}
    own = home / ".config/nightvault/config.toml"
    own.parent.mkdir(parents=True)
    for path in (tmp_path / "option.toml", tmp_path / "named.toml", system, own):
        path.touch()
    assert find_config(str(tmp_path / "option.toml"), environ) == str(tmp_path / "option.toml")
    assert find_config(None, environ) == str(tmp_path / "named.toml")
    assert find_config(None, {"HOME": str(home), "NIGHTVAULT_CONFIG": ""}) == str(system)
    system.unlink()
    assert find_config(None, {"HOME": str(home)}) == str(own)
    own.unlink()
    with pytest.raises(ConfigError, match=f"looked for {system} and {own}") as caught:
        find_config(None, {"HOME": str(home)})
    assert "`nightvault config example > FILE`" in caught.value.advice
    assert "`nightvault begin` writes one" in caught.value.advice


@pytest.mark.parametrize(("option", "environ"), [("/nope", {}), (None, {"NIGHTVAULT_CONFIG": "/nope"})])
def test_a_file_that_was_named_is_not_passed_over(option: str | None, environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="there is no config file /nope"):
        find_config(option, environ)


# What is worth a look.


def test_files_that_others_can_read_or_change_are_warned_of(tmp_path: Path) -> None:
    key, passphrase = tmp_path / "a.key", tmp_path / "pass"
    key.touch(0o640)
    passphrase.touch(0o600)
    text = IDENTITY.replace('"a.key"', '"a.key"\npassphrase_file = "pass"')
    assert list(warnings_of(load(tmp_path, text))) == [f"{key} can be read by others: chmod 0600 it"]
    key.chmod(0o600)
    config = load(tmp_path, text)
    assert list(warnings_of(config)) == []
    os.chmod(config.path, 0o666)
    (warning,) = warnings_of(load_config(config.path))
    assert warning.startswith(f"{config.path} can be changed by others (every user may write to ")
    assert warning.endswith(f": chmod go-w {config.path}")


def test_a_readable_config_with_an_inventory_password_is_warned_of(tmp_path: Path) -> None:
    config = load(tmp_path, '[inventory]\nurl = "postgresql+psycopg://me:hunter2@db/nightvault"')
    assert list(warnings_of(config)) == []
    os.chmod(config.path, 0o644)
    (warning,) = warnings_of(config)
    assert "can be read by others" in warning
    assert "hunter2" not in warning


def test_a_role_without_identity_is_warned_of_and_state_in_a_source_of_a_new_job_is_not(
    tmp_path: Path,
) -> None:
    text = (
        GLACIER + DIRECTORY + JOB.replace("/etc", "/") + JOB.replace("etc", "srv") + JOB.replace("etc", "var")
    )
    warnings = list(warnings_of(load(tmp_path, text)))
    assert [warning.split(":")[0] for warning in warnings] == ["vault cold"]


def test_an_identity_may_come_before_its_roles_with_a_warning(tmp_path: Path) -> None:
    config = load(tmp_path, IDENTITY.partition("[roles_anywhere]")[0])
    assert list(warnings_of(config)) == [
        "roles_anywhere is missing: until it is there, no vault in AWS can be used"
    ]


@pytest.mark.parametrize(
    "place", ["pkcs11:token=x;object=y?pin-source=/p", "handle:0x81000001", "credential:web1.key"]
)
def test_a_key_may_lie_in_a_token_or_tpm(tmp_path: Path, place: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(IDENTITY.replace('"a.key"', f'"{place}"'))
    found = load_config(str(path)).identity
    assert found is not None
    assert found.private_key == place
    assert found.certificate.startswith("/")


def test_the_mark_that_editors_of_windows_write_first_is_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(DIRECTORY + JOB, encoding="utf-8-sig")
    assert [job.name for job in load_config(str(path)).jobs] == ["etc"]
