"""Each mistake in a config is named by its key, all at once, and nothing secret is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from backup.config import (
    load_config,
    parse_size,
)
from backup.errors import ConfigError, UsageError
from tests.config.config_texts import (
    BUCKET,
    DIRECTORY,
    GLACIER,
    IDENTITY,
    JOB,
    PROFILE,
    load,
    mistakes,
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[vaults]", "vaults: unknown section; did you mean vault?"),
        ("[fleet]", "fleet: unknown section"),
        ("state = 3", "state: must be a table"),
        ('[vault]\nname = "x"', "vault: must be written as [[vault]]"),
        ("vault = [3]", "vault[1]: must be a table"),
        ('[center]\nurl = "https://center.example"', "identity: is missing: a center knows this server"),
        ('[center]\nurl = "http://center.example"', "center.url: must be the center's https://HOST"),
        ('[center]\nurl = "https://center.example/path"', "center.url: must be the center's https://HOST"),
        ("[[notify]]", "notify: must be a table, written as [notify]"),
        (DIRECTORY + JOB + 'hooks = "x"', "job[1].hooks: must be a table, written as [job.hooks]"),
        (DIRECTORY + JOB + 'schedule = ""', "job[1].schedule: "),
        (DIRECTORY + 'check = ""', "vault[1].check: "),
        (
            BUCKET + 'prefix = "/a/b/"',
            "vault[1].prefix: must be letters, digits and !_.*'()- and end with a slash; it must not begin",
        ),
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
        (DIRECTORY + JOB + '[[job.copy]]\nvault = "dikc"', "job[1].copy[1].vault: there is no vault dikc"),
        (DIRECTORY + JOB + '[[job.copy]]\nvault = "disk"', "job[1].copy[1].vault: is the job's own vault"),
        (DIRECTORY + JOB + "[[job.copy]]\n", "job[1].copy[1].vault: is missing"),
        (DIRECTORY + JOB + '[job.copy]\nvault = "x"', "job[1].copy: must be written as [[job.copy]]"),
        (
            GLACIER + DIRECTORY + JOB + '[[job.copy]]\nvault = "cold"\n' * 2,
            "job[1].copy[2].vault: another copy of this job goes into cold",
        ),
        (
            GLACIER + DIRECTORY + JOB + '[[job.copy]]\nvault = "cold"\nschedule = "often"',
            "job[1].copy[1].schedule: ",
        ),
        (
            GLACIER + DIRECTORY + JOB + '[[job.copy]]\nvault = "cold"\ndelay = "2 days"',
            'job[1].copy[1].delay: must be a text such as "2d", from "1h" to "365d"',
        ),
        (
            GLACIER + DIRECTORY + JOB + '[[job.copy]]\nvault = "cold"\nretention = "some"',
            "job[1].copy[1].retention: there is no [retention.some]",
        ),
        (
            GLACIER + DIRECTORY + JOB + '[[job.copy]]\nvault = "cold"\n[job.copy.retention]\nkeep_last = 0',
            "job[1].copy[1].retention: would keep nothing",
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
        (
            BUCKET.replace('bucket = "some-bucket"', ""),
            "vault[1].bucket: is missing: kind s3 needs it",
        ),
        (BUCKET + 'prefix = "no-slash"', "vault[1].prefix: must be letters"),
        (
            BUCKET + 'storage_class = "GLACEIR"',
            "vault[1].storage_class: AWS has no such class; did you mean GLACIER?",
        ),
        (BUCKET + 'lock = "worm"', "vault[1].lock: must be governance or compliance"),
        (BUCKET + 'lock_for = "60d"', 'vault[1].lock_for: needs lock = "governance", or "compliance"'),
        (BUCKET + 'lock = "governance"\nlock_for = "1h"', "vault[1].lock_for: must be a text such as"),
        (
            BUCKET + 'lock = "governance"\nlock_for = "5d"',
            "vault[1].lock_step: must not be longer than lock_for",
        ),
        (
            BUCKET + 'lock = "governance"\nlock_for = "401d"',
            "vault[1].lock_for: locks for more than 400 days, all of which are paid for: if that is meant",
        ),
        (BUCKET + 'lock = "compliance"', "vault[1].lock: nobody ends such a lock, not even you"),
        (
            BUCKET + 'lock = "compliance"\nlock_forever = "yes"',
            "vault[1].lock_forever: must be the vault's own name",
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
        (
            DIRECTORY.replace('path = "disk"', ""),
            "vault[1].path: is missing: kind directory needs it",
        ),
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
            "vault[1].region: is missing: kind glacier needs it",
        ),
        (GLACIER.replace("eu-central-1", "frankfurt"), "vault[1].region: must look like eu-central-1"),
        (
            GLACIER.replace('vault = "nightvault"', ""),
            "vault[1].vault: is missing: kind glacier needs it",
        ),
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


def test_a_mistake_hides_no_other(tmp_path: Path) -> None:
    told = mistakes(
        tmp_path,
        """
[[vault]]
name = "disk"
kind = "directory"
[[vault]]
name = "d"
kind = "directroy"
part-size = 3
[[job]]
name = "a b"
vault = "e"
sources = ["rel"]
schedule = "dayly at 2"
timezone = "Europe/Berlim"
keep_dayly = 3
[[job]]
name = "c"
vault = "f"
sources = ["/c"]
retention = "short"
forget = "daily"
[retention.short]
keep_dayly = 3
""",
    )
    assert sorted(line.strip().partition(": ")[0] for line in told.splitlines()[1:]) == [
        "job[1].keep_dayly", "job[1].name", "job[1].schedule", "job[1].sources[1]", "job[1].timezone",
        "job[1].vault",
        "job[2].vault",
        "retention.short.keep_dayly",
        "vault[1].path",
        "vault[2].kind", "vault[2].part-size",
    ]  # fmt: skip


def test_broken_toml_is_told_with_its_line(tmp_path: Path) -> None:
    assert "line 2" in mistakes(tmp_path, "[state]\ndir = /var\n")
    path = tmp_path / "config.toml"
    path.write_bytes(b'[state]\ndir = "\xff"\n')
    with pytest.raises(ConfigError, match="line 2 is not UTF-8"):
        load_config(str(path))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*: Is a directory"):
        load_config(str(tmp_path))


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    os.mkfifo(path)
    with pytest.raises(ConfigError, match=r"cannot read .*config.toml: it is no regular file"):
        load_config(str(path))


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
