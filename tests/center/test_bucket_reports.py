"""A center that is told through a bucket, with the rights that are shipped; each report counts once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from msgspec.structs import replace

import backup.center.bucket
from backup.app.aws_setup.documents import AwsSetup, BucketSetup, documents
from backup.app.base.clock import SystemClock
from backup.app.telling import ways
from backup.center.summary import stored_claims
from backup.credentials.identity import Identity
from backup.format.host_report import (
    MOST_OBJECT,
    join_name,
    new_chain,
    read_token,
    report_name,
    written_object,
)
from backup.notify.channel import AwayError
from backup.vault.aws import make_s3_client
from backup.vault.s3.reports import ReportObjects
from tests.support.centers import Center, body_of, center_database, needs_postgresql, new_center, superuser
from tests.support.emulated import ACCOUNT_ID, REGION, TEST_KEY, RunningEmulator, StaticKey, write_accounts
from tests.support.servers import Server

pytestmark = [pytest.mark.real, pytest.mark.slow, needs_postgresql]

BUCKET = "told"
ADDRESS = f"s3://{BUCKET}"
HOSTS = ("web1", "web2", "mallory")
SETUP = AwsSetup(
    "aws", REGION, ACCOUNT_ID, "-", "arn:aws:rolesanywhere:eu-central-1:1:trust-anchor/a", [], 3600
)


def place(name: str) -> BucketSetup:
    return BucketSetup(BUCKET, f"{name}/", "STANDARD", "STANDARD", is_plain=True, tells=True)


def documents_of(name: str) -> Any:
    """The documents that are shipped, for a host's prefix."""
    return documents(replace(SETUP, bucket=place(name)))


@dataclass
class Told:
    """A center, and a bucket in which each host may put below its own name."""

    center: Center
    emulator: RunningEmulator
    database: Any

    def client(self, name: str) -> Any:
        """A client with the key of a host, of the center, or of the root."""
        import boto3

        key = TEST_KEY if name == "root" else key_of(name)
        session = boto3.Session(key.access_key_id, key.secret_access_key, region_name=REGION)
        return make_s3_client(session, region=REGION, endpoint=self.emulator.s3_url, path_style=True)

    def vault(self, prefix: str) -> str:
        return (
            f'[[vault]]\nname = "ice"\nkind = "s3"\nregion = "{REGION}"\nbucket = "{BUCKET}"\n'
            f'storage_class = "STANDARD"\npath_style = true\nendpoint = "{self.emulator.s3_url}"\n'
            f'prefix = "{prefix}"\n'
        )

    def server(self, name: str) -> Server:
        """A server whose backups go to a directory, with a vault in the bucket."""
        made = self.center.server(name)
        made.config.write_text(f"{made.config.read_text()}\n{self.vault(f'{name}/')}")
        return made

    def fetch(self, *words: object, exit_code: int = 0) -> Any:
        """What the center found in the bucket."""
        with pytest.MonkeyPatch.context() as patch:
            use(patch, "center")
            admin = self.center.admin
            admin.config.write_text(f'[state]\ndir = "{admin.state}"\n\n{self.vault("")}')
            authority = ("--authority", self.center.authority.certificate_path)
            return self.center.command("fetch", *authority, *words, exit_code=exit_code)

    def put(self, name: str, identity: Identity, body: bytes, at: str, key: str | None = None) -> str:
        """Put what `identity` signs for the place of `at` as the host `name`, below a key of its own."""
        headers = ways.signed_headers(identity, ADDRESS, body, f"/{at}")
        self.raw(name, key or at, written_object(headers, body))
        return key or at

    def raw(self, name: str, key: str, data: bytes) -> None:
        self.client(name).put_object(Bucket=BUCKET, Key=key, Body=data, IfNoneMatch="*")

    def joined(self, name: str) -> Server:
        """A server that has joined through the bucket."""
        server = self.server(name)
        with pytest.MonkeyPatch.context() as patch:
            use(patch, name)
            server.done("center", "join", self.token(name))
        assert self.fetch()["joined"] == 1
        return server

    def token(self, name: str) -> str:
        return str(self.center.command("invite", name, "--address", ADDRESS)["token"])

    def tell(self, server: Server, name: str) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            use(patch, name)
            return server.json("center", "tell")

    def host(self, name: str) -> Any:
        return self.center.command("show", name)


def key_of(name: str) -> StaticKey:
    policy = documents_of(name)["center" if name == "center" else "backup"]
    return StaticKey(f"AKIA{name.upper():A<16}", f"secret-of-{name}", user=name, policy=json.dumps(policy))


def use(patch: pytest.MonkeyPatch, name: str) -> None:
    """Let commands use that key."""
    patch.setenv("AWS_ACCESS_KEY_ID", key_of(name).access_key_id)
    patch.setenv("AWS_SECRET_ACCESS_KEY", key_of(name).secret_access_key)


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    accounts = write_accounts(
        tmp_path / "accounts.toml", keys=[TEST_KEY, *(key_of(name) for name in (*HOSTS, "center"))]
    )
    with center_database() as (server, url), RunningEmulator(tmp_path / "aws", accounts) as emulator:
        made = Told(new_center(tmp_path, url), emulator, server)
        root = made.client("root")
        root.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        root.put_bucket_policy(
            Bucket=BUCKET,
            Policy=json.dumps(
                documents(replace(SETUP, bucket=replace(place("x"), prefix=""), is_shared=True))["bucket"]
            ),
        )
        yield made


def test_it_joins_tells_and_is_shown_and_each_report_counts_once(told: Told) -> None:
    web = told.server("web1")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, "web1")
        joined = web.json("center", "join", told.token("web1"))
        assert (joined["center"], joined["added"]) == (ADDRESS, ["center"])
        web.backup()  # tells it, before the center has seen that it joined
        assert web.json("center", "tell")["number"] == 2
    first = told.fetch()
    assert (first["joined"], first["taken"], first["refused"]) == (1, 2, [])
    shown = told.host("web1")
    assert (shown["reports"], shown["jobs"], shown["set_back_at"]) == (2, 1, None)
    assert shown["good_since"] is not None
    again = told.fetch()
    assert (again["joined"], again["taken"], again["refused"]) == (0, 0, [])
    for number in (3, 4, 5):  # the center was away meanwhile
        assert told.tell(web, "web1")["number"] == number
    assert told.fetch()["taken"] == 3
    assert told.host("web1")["reports"] == 5
    assert told.center.command("list")["hosts"][0]["set_back_at"] is None


def test_a_report_whose_answer_was_lost_counts_once(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    web = told.joined("web1")
    told.tell(web, "web1")
    put = ReportObjects.put

    def cut(objects: ReportObjects, name: str, body: bytes) -> None:
        put(objects, name, body)
        raise AwayError("cut off")

    with monkeypatch.context() as patch:
        patch.setattr(ReportObjects, "put", cut)
        use(patch, "web1")
        web.fails(15, "center", "tell")
    assert told.tell(web, "web1")["number"] == 3
    assert told.fetch()["taken"] == 3
    assert told.host("web1")["reports"] == 3
    assert told.host("web1")["set_back_at"] is None


def test_an_older_image_of_a_server_is_set_back(told: Told, tmp_path: Path) -> None:
    web = told.joined("web1")
    told.tell(web, "web1")
    shutil.copytree(web.state, tmp_path / "image")
    told.tell(web, "web1")
    told.fetch()
    shutil.rmtree(web.state)
    shutil.copytree(tmp_path / "image", web.state)
    answer = told.tell(web, "web1")
    assert (answer["number"], answer["began_anew"]) == (1, True)
    assert told.fetch()["refused"] == []
    assert "does not know its last 1 reports" in told.host("web1")["why"]


def test_a_chain_is_short_so_that_a_missed_report_is_healed(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "MOST_OF_CHAIN", 3)
    web = told.joined("web1")
    chains = [told.tell(web, "web1")["chain"] for _ in range(3)]
    assert len(set(chains)) == 1
    lost = [
        line["Key"]
        for line in told.client("root").list_objects_v2(Bucket=BUCKET, Prefix="web1/reports/")["Contents"]
    ]
    (second,) = [key for key in lost if "/0000000000000002-" in key]
    told.client("root").delete_bucket_policy(Bucket=BUCKET)
    told.client("root").delete_object(Bucket=BUCKET, Key=second)
    found = told.fetch()
    assert (found["taken"], [why["why"] for why in found["refused"]]) == (1, ["number 3 does not follow 1"])
    answer = told.tell(web, "web1")
    assert (answer["number"], answer["began_anew"]) == (1, True)
    assert told.fetch()["refused"] == []
    assert told.host("web1")["reports"] == 1


def test_a_lost_database_is_filled_from_the_bucket(told: Told) -> None:
    for name in ("web1", "web2"):
        server = told.joined(name)
        for _ in range(2):
            told.tell(server, name)
    told.fetch()
    before = {name: told.host(name)["told"] for name in ("web1", "web2")}
    with closing(superuser(told.database, "nightvault")) as connection:
        connection.execute("TRUNCATE hosts, chains, days, excuses, invites, places")
    assert {why["why"] for why in told.fetch()["refused"]} == {
        "this invitation is unknown here, or ran out",
        "this server has not joined the center: it needs an invitation",
    }
    with closing(superuser(told.database, "nightvault")) as connection:
        connection.execute("TRUNCATE places")
    assert told.fetch("--uninvited")["taken"] == 4
    assert {name: told.host(name)["told"] for name in ("web1", "web2")} == before


def test_a_hostile_host_gets_nothing_but_its_own_row(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    web, mallory = told.joined("web1"), told.center.identity("mallory")
    told.tell(web, "web1")
    told.fetch()
    before = told.host("web1")
    theirs = told.client("root").list_objects_v2(Bucket=BUCKET, Prefix="web1/reports/")["Contents"]
    copied = {
        line["Key"]: told.client("root").get_object(Bucket=BUCKET, Key=line["Key"])["Body"].read()
        for line in theirs
    }
    for key, data in copied.items():  # copies of another's reports, and of its invitation
        told.raw("mallory", key.replace("web1/", "mallory/"), data)
    body = json.dumps({"secret": read_token(told.token("web2"))[1]}).encode()
    chain = new_chain(datetime.now(UTC).timestamp(), b"m" * 12)
    report = body_of(chain=chain)
    mine = f"mallory/{report_name(chain, 1, report)}"
    told.put("mallory", mallory, report, f"web1/{report_name(chain, 1, report)}", mine)  # for web1's place
    told.put("mallory", mallory, body, f"mallory/{join_name(0xFFFFFFFF, body)}")  # for web2
    other = body_of(chain=chain, program="2")
    told.put("mallory", mallory, other, f"mallory/{report_name(chain, 1, other)}")  # has not joined
    told.raw("mallory", "mallory/reports/z/../../<script>\x1b[2J", b"x")
    told.raw("mallory", f"mallory/{report_name('f' * 32, 1, b'')}", b"[" * 100_000)
    told.raw("mallory", f"mallory/{report_name('f' * 32, 2, b'')}", b"")
    told.raw("mallory", f"mallory/{report_name('f' * 32, 3, b'')}", b" " * (MOST_OBJECT + 1))
    with pytest.raises(ClientError):  # neither in another's place, nor over its own
        told.raw("mallory", "web1/reports/x", b"x")
    with pytest.raises(ClientError):
        told.client("mallory").put_object(Bucket=BUCKET, Key=mine, Body=b"other")
    with pytest.raises(ClientError):  # nor out of the center's sight
        told.client("mallory").put_object(
            Bucket=BUCKET, Key="mallory/reports/cold", Body=b"x", StorageClass="GLACIER", IfNoneMatch="*"
        )
    with pytest.raises(ClientError):
        told.client("mallory").get_object(Bucket=BUCKET, Key=next(iter(copied)))
    found = told.fetch()
    assert (found["taken"], found["joined"]) == (0, 0)
    assert len(found["refused"]) == len(copied) + 7
    assert not any("\x1b" in why["name"] for why in found["refused"])
    assert told.host("web1") == before
    assert [host["name"] for host in told.center.command("list")["hosts"]] == ["web1"]
    assert told.fetch()["refused"] == []  # each is told once
    monkeypatch.setattr(backup.center.bucket, "MOST_LISTED", 5)
    told.tell(web, "web1")
    flooded = told.fetch()
    assert flooded["taken"] == 1
    assert [why["why"].split(":")[0] for why in flooded["refused"]] == ["more than 5 objects"]


def test_a_place_is_taken_in_parts(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    web = told.joined("web1")
    monkeypatch.setattr(backup.center.bucket, "MOST_TAKEN", 2)
    for _ in range(5):
        told.tell(web, "web1")
    found = [told.fetch() for _ in range(3)]
    assert [(of["taken"], of["has_more"]) for of in found] == [(2, True), (2, True), (1, False)]
    assert told.host("web1")["reports"] == 5


def test_the_center_reads_reports_and_nothing_else(told: Told) -> None:
    web = told.joined("web1")
    told.tell(web, "web1")
    root, center = told.client("root"), told.client("center")
    root.put_object(Bucket=BUCKET, Key="web1/data/a/b", Body=b"x", IfNoneMatch="*")
    (key,) = [
        line["Key"]
        for line in root.list_objects_v2(Bucket=BUCKET)["Contents"]
        if "/0000000000000001-" in line["Key"]
    ]
    assert center.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    attempts: dict[str, dict[str, Any]] = {
        "get_object": {"Key": "web1/data/a/b"},
        "put_object": {"Key": "web1/reports/x", "Body": b"", "IfNoneMatch": "*"},
        "delete_object": {"Key": key},
        "put_bucket_policy": {"Policy": "{}"},
    }
    for call, words in attempts.items():
        with pytest.raises(ClientError, match="AccessDenied"):
            getattr(center, call)(Bucket=BUCKET, **words)


def test_a_bucket_that_cannot_be_read_loses_nothing(told: Told) -> None:
    web = told.joined("web1")
    told.tell(web, "web1")
    shut = {
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{BUCKET}/*",
    }
    root = told.client("root")
    known = root.get_bucket_policy(Bucket=BUCKET)["Policy"]
    root.put_bucket_policy(Bucket=BUCKET, Policy=json.dumps({"Version": "2012-10-17", "Statement": [shut]}))
    found = told.fetch()
    assert (found["taken"], len(found["refused"])) == (0, 1)
    root.put_bucket_policy(Bucket=BUCKET, Policy=known)
    assert told.fetch()["taken"] == 1
    assert (SystemClock().now() - datetime.fromisoformat(told.host("web1")["last_at"])).seconds < 60


def test_a_server_that_says_done_and_stored_nothing_is_found(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose nights go into the bucket: as they should, then without a trace, then again."""
    web = told.server("web1")
    web.config.write_text(web.config.read_text().replace('vault = "cold"', 'vault = "ice"'))
    with monkeypatch.context() as patch:
        use(patch, "web1")
        web.done("init")
        web.done("center", "join", told.token("web1"))
        web.backup()
    assert (told.fetch()["contradicted"], told.host("web1")["contradicted_at"]) == (0, None)
    assert stored_claims(told.host("web1")["told"])[0][1] == "main"
    root = told.client("root")
    policy = root.get_bucket_policy(Bucket=BUCKET)["Policy"]
    root.delete_bucket_policy(Bucket=BUCKET)
    kept = {}
    for line in root.list_objects_v2(Bucket=BUCKET, Prefix="web1/meta/")["Contents"]:
        kept[line["Key"]] = root.get_object(Bucket=BUCKET, Key=line["Key"])["Body"].read()
        root.delete_object(Bucket=BUCKET, Key=line["Key"])
    assert told.fetch()["contradicted"] == 0  # it was compared within hours
    monkeypatch.setattr(backup.center.bucket, "COMPARED_EACH", timedelta(0))
    assert told.fetch()["contradicted"] == 1
    (host,) = told.center.command("status", exit_code=1)["not_well"]
    assert host["standing"] == "contradicted"
    assert host["why"].endswith("UTC, but its vault has nothing")
    since = host["contradicted_at"]
    assert told.fetch()["contradicted"] == 1
    assert told.host("web1")["contradicted_at"] == since
    told.center.command("ack", "web1", "--until", "3d", "--why", "moved by hand")
    assert told.center.command("status")["known"][0]["name"] == "web1"
    for key, data in kept.items():
        root.put_object(Bucket=BUCKET, Key=key, Body=data, IfNoneMatch="*")
    root.put_bucket_policy(Bucket=BUCKET, Policy=policy)
    assert told.fetch()["contradicted"] == 0
    assert told.host("web1")["contradicted_at"] is None


def test_claims_are_of_buckets_and_the_newest_of_each() -> None:
    jobs = [
        {"job": "a", "vault": "ice", "last_good": "2026-01-01T00:00:00Z"},
        {"job": "b", "vault": "ice", "last_good": "2026-01-03T00:00:00Z"},
        {"job": "c", "vault": "far", "last_good": "2026-01-02T00:00:00Z"},
        {"job": "d", "vault": "disk", "last_good": "2026-01-09T00:00:00Z"},
        {"job": "e", "vault": "ice", "last_good": "soon"},
        {"job": ["f"], "vault": None, "last_good": 7},
    ]
    vaults = [
        {"vault": "ice", "kind": "s3:GLACIER"},
        {"vault": "far", "kind": "s3"},
        {"vault": "disk", "kind": "directory"},
    ]
    found = stored_claims({"jobs": jobs, "vaults": [*vaults, None, {"kind": "s3"}]})
    assert [(claim.day, job) for claim, job in found] == [(3, "b"), (2, "c")]
    for strange in ({}, {"jobs": 1, "vaults": "x"}, {"jobs": [{}], "vaults": [{"kind": "s3", "vault": []}]}):
        assert stored_claims(strange) == []


def test_one_that_is_removed_leaves_nothing_and_does_not_come_back_by_what_lies_there(told: Told) -> None:
    web = told.joined("web1")
    told.tell(web, "web1")
    told.fetch()
    told.center.command("remove", "web1")
    with closing(superuser(told.database, "nightvault")) as connection:
        for table in ("hosts", "chains", "days", "invites", "places"):
            found = connection.execute(f"SELECT count(*) FROM {table} WHERE {table}::text LIKE '%web1%'")
            assert found.fetchone() == (0,), table
    again = told.fetch()
    assert (again["taken"], again["joined"], len(again["refused"])) == (0, 0, 2)
    assert told.center.command("list") == {"hosts": []}
    with pytest.MonkeyPatch.context() as patch:
        use(patch, "web1")
        web.done("center", "join", told.token("web1"))
    told.tell(web, "web1")
    assert (told.fetch()["joined"], told.host("web1")["reports"]) == (1, 1)
