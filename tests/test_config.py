"""The config: the example loads, each mistake is named by its key, paths become absolute, nothing leaks."""

from __future__ import annotations

import inspect
import os
import re
from pathlib import Path
from zoneinfo import ZoneInfoNotFoundError

import pytest
import tzlocal

from backup.cli.commands.config import warnings_of
from backup.config import (
    Config,
    find_config,
    load_config,
    minute_of,
    parse_size,
    part_size_within,
    warnings_of_limits,
)
from backup.config.limits import PARTS_AT_ONCE
from backup.errors import ConfigError, UsageError
from backup.model import MIB, Tier
from backup.transfer.upload import Uploader

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"
ANCHOR = "arn:aws:rolesanywhere:eu-central-1:123456789012:trust-anchor/11111111-2222"
PROFILE = "arn:aws:rolesanywhere:eu-central-1:123456789012:profile/33333333-4444"

DIRECTORY = """
[[vault]]
name = "disk"
kind = "directory"
path = "disk"
"""
GLACIER = """
[[vault]]
name = "cold"
kind = "glacier"
region = "eu-central-1"
vault = "nightvault"
role_arn = "arn:aws:iam::123456789012:role/service/backup"
"""
BUCKET = """
[[vault]]
name = "frozen"
kind = "s3"
region = "eu-central-1"
bucket = "some-bucket"
"""
JOB = """
[[job]]
name = "etc"
vault = "disk"
sources = ["/etc"]
"""
IDENTITY = f"""
[identity]
certificate = "a.crt"
private_key = "a.key"
[roles_anywhere]
region = "eu-central-1"
trust_anchor_arn = "{ANCHOR}"
profile_arn = "{PROFILE}"
"""


def load(folder: Path, text: str) -> Config:
    path = folder / "config.toml"
    path.write_text(text)
    path.chmod(0o600)
    return load_config(str(path))


def mistakes(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(folder, text)
    return str(caught.value)


# What is right.


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
    with pytest.raises(ConfigError, match="role_arn: is missing"):
        load(tmp_path, IDENTITY + BUCKET)


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


# What is wrong.


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[vaults]", "vaults: unknown section; did you mean vault?"),
        ("[fleet]", "fleet: unknown section"),
        ("state = 3", "state: must be a table"),
        ('[vault]\nname = "x"', "vault: must be written as [[vault]]"),
        ("vault = [3]", "vault[1]: must be a table"),
        (DIRECTORY + 'part-size = "1MiB"', "vault[1].part-size: unknown key; did you mean part_size?"),
        (DIRECTORY + JOB + "[job.retention]\nkeep = 3", "job[1].retention.keep: unknown key"),
        (DIRECTORY + JOB + "[[job.command]]\n", "job[1].command[1].run: is missing"),
        (
            DIRECTORY + JOB + '[[job.command]]\nname = "../x"\nrun = ["x"]',
            "job[1].command[1].name: must be a name",
        ),
        (
            DIRECTORY + JOB + '[[job.command]]\nname = "x"\nrun = []',
            "job[1].command[1].run: must name a program",
        ),
        (
            DIRECTORY + JOB + "".join(f'[[job.command]]\nname = "{n}"\nrun = ["x"]\n' for n in ("a/b", "a")),
            "job[1].command[2].name: a/b is in its place already",
        ),
        ("[state]\ndir = 3", "state.dir: must be a text, not a whole number"),
        ('[state]\ndir = ""', "state.dir: must not be empty"),
        ('[inventory]\nurl = "sqlite:///relative.db"', "inventory.url: must be sqlite:////PATH"),
        ('[inventory]\nurl = "mysql://x/y"', "inventory.url: must be sqlite:////PATH"),
        ('[encryption]\nrecipients = "nvr1"', "encryption.recipients: must be a list, not a text"),
        ('[encryption]\nrecipients = ["nvr1abc"]', "encryption.recipients[1]: this is not a recipient"),
        (
            '[encryption]\nrecipients = ["age1", 3]',
            "encryption.recipients[2]: must be a text, not a whole number",
        ),
        (DIRECTORY.replace('"directory"', '"tape"'), "vault[1].kind: must be directory, glacier or s3"),
        (DIRECTORY.replace('"directory"', '"s3"'), "vault[1].path: is for vaults of kind directory"),
        (BUCKET.replace('bucket = "some-bucket"', ""), "vault[1].bucket: is missing: a s3 vault needs it"),
        (BUCKET + 'prefix = "no-slash"', "vault[1].prefix: must be letters"),
        (
            BUCKET + 'storage_class = "GLACEIR"',
            "vault[1].storage_class: AWS has no such class; did you mean GLACIER?",
        ),
        (BUCKET + 'storage_class = "cold"', "vault[1].storage_class: must be a class in capitals"),
        (
            BUCKET + 'catalog_class = "GLACIER"',
            "vault[1].catalog_class: must be a class that is read",
        ),
        (BUCKET + 'part_size = "4MiB"', "vault[1].part_size: must be 8, 16, 32, 64, … or 4096 MiB"),
        (BUCKET + 'tier = "expedited"', "vault[1].tier: must be standard or bulk: DEEP_ARCHIVE"),
        (BUCKET.replace("eu-central-1", "fr-par"), "vault[1].region: must look like eu-central-1"),
        (GLACIER + 'bucket = "some-bucket"', "vault[1].bucket: is for vaults of kind s3"),
        (DIRECTORY.replace('name = "disk"', ""), "vault[1].name: is missing"),
        (DIRECTORY.replace('"disk"', '"a/b"'), "vault[1].name: must be of letters"),
        (DIRECTORY.replace('"disk"', '"-x"'), "vault[1].name: must be of letters"),
        (DIRECTORY.replace('"disk"', '"disk\\n"'), "vault[1].name: must be of letters"),
        (DIRECTORY.replace('path = "disk"', ""), "vault[1].path: is missing: a directory vault needs it"),
        (DIRECTORY + 'region = "eu-central-1"', "vault[1].region: is for vaults of kind glacier or s3"),
        (DIRECTORY + DIRECTORY, "vault[2].name: another vault is named disk"),
        (DIRECTORY + JOB + JOB, "job[2].name: another job is named etc"),
        (
            DIRECTORY + 'tier = "bulky"',
            "vault[1].tier: must be one of expedited, standard, bulk; did you mean bulk?",
        ),
        (
            '[restore]\non_capacity = "waits"',
            "restore.on_capacity: must be one of wait, standard, bulk, fail; did you mean wait?",
        ),
        (DIRECTORY + "tier = 3", "vault[1].tier: must be one of expedited, standard, bulk"),
        (DIRECTORY + 'part_size = "3MiB"', "vault[1].part_size: must be 1, 2, 4"),
        (DIRECTORY + "part_size = 1024", "vault[1].part_size: must be 1, 2, 4"),
        (DIRECTORY + 'part_size = "32 MB"', "vault[1].part_size: must be a number of bytes or a text like"),
        (DIRECTORY + "part_size = true", "vault[1].part_size: must be a number of bytes or a text like"),
        (DIRECTORY + 'upload_limit = "2 MiB"', 'vault[1].upload_limit: must be a text like "2MiB/s"'),
        (DIRECTORY + "download_limit = true", 'vault[1].download_limit: must be a text like "2MiB/s"'),
        (DIRECTORY + 'upload_limit = "15KiB/s"', "vault[1].upload_limit: must be at least 16KiB/s"),
        (DIRECTORY + "upload_limit = [5]", "vault[1].upload_limit[1]: must be a table"),
        (
            DIRECTORY + 'upload_limit = [{ from = "8:00", to = "24:00", limit = "0MiB/s" }]',
            "vault[1].upload_limit[1].from: must be a time such as",
        ),
        (
            DIRECTORY + 'upload_limit = [{ from = "08:00", to = "24:01", limit = "1MiB" }]',
            "vault[1].upload_limit[1].to: must be a time such as",
        ),
        (
            DIRECTORY + 'upload_limit = [{ from = "08:00", to = "24:00", limit = "1MiB" }]',
            'vault[1].upload_limit[1].limit: must be a text like "2MiB/s"',
        ),
        (
            DIRECTORY + 'upload_limit = [{ from = "08:00", till = "18:00", limit = "1MiB/s" }]',
            "vault[1].upload_limit[1].to: is missing",
        ),
        (
            DIRECTORY + 'upload_limit = [{ from = "08:00", to = "08:00", limit = "1MiB/s" }]',
            'vault[1].upload_limit[1].to: must not be "from"',
        ),
        (DIRECTORY + JOB + "nice = 20", "job[1].nice: must be"),
        (DIRECTORY + JOB + "nice = -1", "job[1].nice: must be"),
        (DIRECTORY + JOB + 'ionice = "best-effort"', "job[1].ionice: must be idle, or best-effort:0"),
        (DIRECTORY + JOB + 'ionice = "realtime:0"', "job[1].ionice: must be idle, or best-effort:0"),
        (DIRECTORY + "pack_size = 17", "vault[1].pack_size: must be at least 1 MiB"),
        (
            DIRECTORY + 'part_size = "1MiB"\npack_size = "10GiB"',
            "vault[1].pack_size: must be at least 1 MiB and",
        ),
        (
            GLACIER.replace('region = "eu-central-1"', ""),
            "vault[1].region: is missing: a glacier vault needs it",
        ),
        (GLACIER.replace("eu-central-1", "frankfurt"), "vault[1].region: must look like eu-central-1"),
        (GLACIER.replace('vault = "nightvault"', ""), "vault[1].vault: is missing: a glacier vault needs it"),
        (GLACIER.replace('"nightvault"', '"night vault"'), "vault[1].vault: must be 1 to 255"),
        (GLACIER + 'path = "/x"', "vault[1].path: is for vaults of kind directory"),
        (GLACIER + 'account_id = "12345"', "vault[1].account_id: must be 12 digits"),
        (GLACIER + "account_id = 123456789012", "vault[1].account_id: must be a text, not a whole number"),
        (
            GLACIER + 'restore_role_arn = "arn:aws:iam::1:role/x"',
            "vault[1].restore_role_arn: must look like arn",
        ),
        (GLACIER + 'endpoint = "http://example.org"', "vault[1].endpoint: must be https://HOST"),
        (GLACIER + 'endpoint = "http://127.0.0.1:80@example.org"', "vault[1].endpoint: must be https://HOST"),
        (GLACIER + 'endpoint = "ftp://example.org"', "vault[1].endpoint: must be https://HOST"),
        (IDENTITY + GLACIER.replace("role_arn", "prune_role_arn"), "vault[1].role_arn: is missing"),
        ("[roles_anywhere]" + IDENTITY.partition("[roles_anywhere]")[2], "identity: is missing"),
        (
            IDENTITY.replace("trust-anchor/", "trustanchor/"),
            "roles_anywhere.trust_anchor_arn: must look like",
        ),
        (IDENTITY.replace("profile/", "role/"), "roles_anywhere.profile_arn: must look like"),
        (
            IDENTITY.replace('region = "eu', 'region = "us'),
            "roles_anywhere.profile_arn: is in eu-central-1, but",
        ),
        (
            IDENTITY.replace(PROFILE, PROFILE.replace("123456789012", "999999999999")),
            "profile_arn: is of account 9",
        ),
        (
            IDENTITY + "session_duration = 60",
            "roles_anywhere.session_duration: must be a whole number >= 900",
        ),
        (IDENTITY + 'session_duration = "1h"', "session_duration: must be a whole number, not a text"),
        (IDENTITY + 'role_session_name = "a b"', "roles_anywhere.role_session_name: must be 2 to 64"),
        (
            DIRECTORY + JOB.replace('"disk"', '"disc"'),
            "job[1].vault: there is no vault disc; did you mean disk?",
        ),
        (DIRECTORY + JOB.replace('["/etc"]', "[]"), "job[1].sources: must name something to back up"),
        (DIRECTORY + JOB.replace('["/etc"]', '"/etc"'), "job[1].sources: must be a list, not a text"),
        (
            DIRECTORY + JOB.replace('["/etc"]', '["/etc", "home"]'),
            "job[1].sources[2]: must be an absolute path",
        ),
        (DIRECTORY + JOB.replace('["/etc"]', '["~/x"]'), "job[1].sources[1]: must be an absolute path"),
        (
            DIRECTORY + JOB.replace('["/etc"]', '["/a\\u0000b"]'),
            "job[1].sources[1]: must be an absolute path",
        ),
        (DIRECTORY + JOB + 'exclude = ["*.o", ""]', "job[1].exclude[2]: must not be empty"),
        (
            DIRECTORY + JOB + 'exclude_caches = "yes"',
            "job[1].exclude_caches: must be true or false, not a text",
        ),
        (
            DIRECTORY + JOB + "compression_level = 22",
            "job[1].compression_level: must be a whole number <= 19",
        ),
        (DIRECTORY + JOB + 'schedule = "sometimes"', 'job[1].schedule: "sometimes" cannot be read'),
        (DIRECTORY + JOB + 'timezone = "Berlin"', 'job[1].timezone: "Berlin" is no time zone'),
    ],
)
def test_a_mistake_is_named_by_its_key(tmp_path: Path, text: str, sentence: str) -> None:
    told = mistakes(tmp_path, text)
    assert sentence in told
    assert told.startswith(str(tmp_path / "config.toml"))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    told = mistakes(tmp_path, '[stat]\n[[vault]]\nnam = "x"\nkind = 3\n[[job]]\nsources = 1')
    assert [line.strip().partition(":")[0] for line in told.splitlines()[1:]] == [
        "stat", "vault[1].nam", "vault[1].kind", "vault[1].name", "job[1].sources", "job[1].name",
        "job[1].vault",
    ]  # fmt: skip
    assert told.startswith(f"{tmp_path}/config.toml: 7 mistakes")


def test_broken_toml_is_told_with_its_line(tmp_path: Path) -> None:
    assert "line 2" in mistakes(tmp_path, "[state]\ndir = /var\n")
    path = tmp_path / "config.toml"
    path.write_bytes(b'[state]\ndir = "\xff"\n')
    with pytest.raises(ConfigError, match="line 2 is not UTF-8"):
        load_config(str(path))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*: Is a directory"):
        load_config(str(tmp_path))


@pytest.mark.parametrize("value", [None, 1.5, "", "12", "MiB", "-1MiB", [], True])
def test_no_size(value: object) -> None:
    with pytest.raises(ValueError, match="number of bytes"):
        parse_size(value)


def test_names_that_are_not_there(tmp_path: Path) -> None:
    config = load(tmp_path, DIRECTORY + JOB)
    with pytest.raises(UsageError, match=r"no job named ect in .*: there is etc; did you mean etc\?"):
        config.job("ect")
    with pytest.raises(UsageError, match=r"no vault named x in .*: there is none"):
        load(tmp_path, "").vault("x")


def test_a_password_in_the_inventory_address_is_not_shown(tmp_path: Path) -> None:
    config = load(tmp_path, '[inventory]\nurl = "postgresql+psycopg://me:hunter2@db/nightvault"')
    assert "hunter2" not in repr(config)
    assert "hunter2" not in mistakes(tmp_path, '[inventory]\nurl = "postgres://me:hunter2@db/nightvault"')


# Where it is looked for.


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
    assert "config.example.toml" in caught.value.advice


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
    os.chmod(config.path, 0o664)
    assert list(warnings_of(config)) == [f"{config.path} can be changed by others: chmod go-w it"]


def test_a_readable_config_with_an_inventory_password_is_warned_of(tmp_path: Path) -> None:
    config = load(tmp_path, '[inventory]\nurl = "postgresql+psycopg://me:hunter2@db/nightvault"')
    assert list(warnings_of(config)) == []
    os.chmod(config.path, 0o644)
    (warning,) = warnings_of(config)
    assert "can be read by others" in warning
    assert "hunter2" not in warning


def test_the_state_in_a_source_and_a_role_without_identity_are_warned_of(tmp_path: Path) -> None:
    text = (
        GLACIER + DIRECTORY + JOB.replace("/etc", "/") + JOB.replace("etc", "srv") + JOB.replace("etc", "var")
    )
    warnings = list(warnings_of(load(tmp_path, text)))
    assert [warning.split(":")[0] for warning in warnings] == [
        "vault cold",
        "job etc backs up the state directory /var/lib/nightvault",
        "job etc backs up vault disk, which lies in its source /",
        "job var backs up the state directory /var/lib/nightvault",
    ]


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


# Choosing.


def test_sources_may_have_settings_of_their_own(tmp_path: Path) -> None:
    own = '[[job.source]]\npath = "/srv"\nexclude = ["*.iso"]\none_file_system = true\nexclude_file = ["x"]\n'
    job = load(
        tmp_path, DIRECTORY + JOB + 'iexclude_file = ["~/y"]\nexclude_larger_than = "1GiB"\n' + own
    ).jobs[0]
    assert job.paths == ("/etc", "/srv")
    assert job.iexclude_file == (os.path.expanduser("~/y"),)
    assert job.exclude_larger_than == 1024 * MIB
    assert (job.source[0].exclude, job.source[0].one_file_system) == (("*.iso",), True)
    assert job.source[0].exclude_file == (str(tmp_path / "x"),)
    assert job.source[0].exclude_caches is None


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('exclude = ["fine", "!"]', "job[1].exclude[2]: Invalid"),
        ('exclude_if_present = ["a/b"]', "job[1].exclude_if_present[1]: must be the name of a file"),
        ('exclude_larger_than = "9 tons"', "job[1].exclude_larger_than: must be a number of bytes"),
        ('[[job.source]]\npath = "/etc"', "job[1].source[1].path: /etc is a source of this job already"),
        ('[[job.source]]\npath = "etc"', "job[1].source[1].path: must be an absolute path"),
        ('[[job.source]]\npath = "/a"\nexlude = []', "job[1].source[1].exlude: unknown key; did you mean"),
        ("[[job.source]]\nexclude = []", "job[1].source[1].path: is missing"),
        ('[[job.source]]\npath = "/a"\niexclude = ["!"]', "job[1].source[1].iexclude[1]: Invalid"),
        ('[job.hooks]\nbefore = "/bin/true"', "job[1].hooks.before: must be a command such as"),
        ("[job.hooks]\nbefore = [[]]", "job[1].hooks.before[1].run: must name a program"),
        ('[job.hooks]\nafter = [{ runs = ["x"] }]', "job[1].hooks.after[1].runs: unknown key; did you"),
        ('[job.hooks]\nfinally = [["x"], "y"]', "job[1].hooks.finally[2]: must be a table"),
        ('[job.hooks]\ntimeout = "9 days"', "job[1].hooks.timeout: must be a number of seconds"),
    ],
)  # fmt: skip
def test_a_mistake_in_choosing_or_hooks_is_named_by_its_key(tmp_path: Path, line: str, sentence: str) -> None:
    assert sentence in mistakes(tmp_path, DIRECTORY + JOB + line)


def test_hooks_are_one_command_or_several_each_with_its_time(tmp_path: Path) -> None:
    written = """
[job.hooks]
timeout = "10m"
before = ["/bin/one", "word"]
after = [["/bin/one"], { run = ["/bin/two"], timeout = "2h" }]
finally = []
"""
    hooks = load(tmp_path, DIRECTORY + JOB + written).jobs[0].hooks
    assert [(one.run, one.timeout) for one in hooks.before] == [(("/bin/one", "word"), None)]
    assert [(one.run, one.timeout) for one in hooks.after] == [(("/bin/one",), None), (("/bin/two",), 7200)]
    assert (hooks.finally_, hooks.on_failure, hooks.timeout) == ((), (), 600)


# Limits.


def test_a_limit_holds_all_day_or_in_windows(tmp_path: Path) -> None:
    vault = load(
        tmp_path,
        DIRECTORY
        + 'upload_limit = "2MiB/s"\ndownload_limit = [{ from = "22:00", to = "06:30", limit = "64KiB/s" },'
        + ' { from = "08:00", to = "24:00", limit = 100000 }]',
    ).vault("disk")
    assert [(one.from_, one.to, one.limit) for one in vault.upload_limit] == [("00:00", "24:00", 2 * MIB)]
    assert [(minute_of(one.from_), minute_of(one.to), one.limit) for one in vault.download_limit] == [
        (1320, 390, 65536),
        (480, 1440, 100_000),
    ]


def test_parts_are_so_small_that_what_is_under_way_takes_ten_minutes_at_most(tmp_path: Path) -> None:
    slow = [{"limit": rate} for rate in ("1GiB/s", "100KiB/s", "64KiB/s", "16KiB/s")]
    sizes = []
    for one in slow:
        text = GLACIER + f'upload_limit = "{one["limit"]}"'
        vault = load(tmp_path, text).vault("cold")
        assert list(warnings_of_limits(vault)) == []
        sizes.append(part_size_within(vault) // MIB)
        assert part_size_within(vault) * 3 <= 600 * vault.upload_limit[0].limit
    assert sizes == [32, 16, 8, 2]


def test_parts_of_s3_have_a_smallest_size_and_that_is_told(tmp_path: Path) -> None:
    vault = load(tmp_path, BUCKET + 'upload_limit = "16KiB/s"').vault("frozen")
    assert part_size_within(vault) == 8 * MIB
    (warning,) = warnings_of_limits(vault)
    assert warning.startswith(
        "vault frozen: at 16 KiB/s its smallest parts (8 MiB, 3 at once) take 25 minutes"
    )


def test_as_many_parts_are_reckoned_with_as_are_sent_at_once() -> None:
    assert inspect.signature(Uploader).parameters["parts_at_once"].default == PARTS_AT_ONCE


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ('schedule = "every 1h"\njitter = "1h"', "job[1].jitter: must be shorter than the time between"),
        ('jitter = "25h"', 'job[1].jitter: must be at most "24h"'),
        ('jitter = "soon"', "job[1].jitter: must be a number of seconds or a text"),
        ('catch_up = "twice"', "job[1].catch_up: must be one of once, skip"),
        ('retry = "10m"', 'job[1].retry: must be a list such as ["10m", "1h", "3h"]'),
        ('retry = ["0s"]', 'job[1].retry: must be times from "1s" to "168h"'),
    ],
)  # fmt: skip
def test_times_of_a_job_that_cannot_be(tmp_path: Path, keys: str, complaint: str) -> None:
    assert complaint in mistakes(tmp_path, DIRECTORY + JOB + keys + "\n")


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ('check = "often"', 'vault[1].check: "often" cannot be read'),
        ('check_sample = "1%"', 'vault[1].check_sample: needs a schedule: check = "weekly"'),
        ('check = "weekly"\ncheck_sample = "0%"', "vault[1].check_sample: must be above 0, and at most 100%"),
        ('check = "weekly"\ncheck_sample = "101%"', "vault[1].check_sample: must be above 0"),
        ('check = "weekly"\ncheck_sample = "some"', "vault[1].check_sample: must be a share or a size"),
    ],
)  # fmt: skip
def test_checks_that_cannot_be(tmp_path: Path, keys: str, complaint: str) -> None:
    assert complaint in mistakes(tmp_path, DIRECTORY + keys + "\n" + JOB)


def test_times_and_checks_as_they_are_written(tmp_path: Path) -> None:
    times = 'schedule = "daily"\njitter = "30m"\ncatch_up = "skip"\nretry = ["10m", 3600]\n'
    config = load(tmp_path, DIRECTORY + 'check = "weekly"\ncheck_sample = "5GiB"\n' + JOB + times)
    job, vault = config.job("etc"), config.vault("disk")
    assert (job.jitter, job.catch_up, job.retry) == (1800, "skip", (600, 3600))
    assert vault.check_when is not None
    assert vault.check_sample == "5GiB"
