"""Real clients, unmodified: boto3 with all 33 operations, the AWS CLI, and mt-aws-glacier's requests."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.model import ServiceModel

from tests.emulator import other_clients
from tests.support.emulated import (
    ACCESS_KEY_ID,
    ACCOUNT_ID,
    REGION,
    SECRET_ACCESS_KEY,
    RunningEmulator,
    write_accounts,
)
from tests.support.emulator_clients import MIB, Talker, arn_of, client, new_vault_name, pattern, tree_hash
from tests.support.own_venvs import own_venv

pytestmark = pytest.mark.slow

DATA = pattern(2 * MIB + 9)
HOURS = 3600
TOPIC = "arn:aws:sns:eu-central-1:123456789012:done"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningEmulator]:
    folder = tmp_path_factory.mktemp("clients")
    with RunningEmulator(folder / "state", write_accounts(folder / "accounts.toml")) as running:
        yield running


class Counting:
    """boto3, remembering which operations were called."""

    def __init__(self, glacier: Any) -> None:
        self._glacier = glacier
        self.model: ServiceModel = glacier.meta.service_model
        self.called: set[str] = set()
        glacier.meta.events.register("before-call.glacier", self._note)

    def _note(self, model: Any, **_: Any) -> None:
        self.called.add(model.name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._glacier, name)


def test_boto3_calls_all_33(own: RunningEmulator) -> None:
    glacier = Counting(client(own.glacier_url))
    v = {"vaultName": "boto", "accountId": "-"}
    glacier.create_vault(**v)
    assert glacier.get_waiter("vault_exists").wait(**v) is None
    _archives(glacier, v)
    _settings_of_a_vault(glacier, v)
    _settings_of_the_account(glacier)
    _jobs(glacier, v, own)
    glacier.create_vault(vaultName="empty")
    glacier.delete_vault(vaultName="empty")
    assert glacier.called == set(glacier.model.operation_names)


def _archives(glacier: Any, v: dict[str, str]) -> None:
    upload = glacier.initiate_multipart_upload(**v, partSize=str(MIB), archiveDescription="a  b ")["uploadId"]
    for at in (2 * MIB, 0, MIB):
        body = DATA[at : at + MIB]
        where = f"bytes {at}-{at + len(body) - 1}/*"
        sent = glacier.upload_multipart_part(**v, uploadId=upload, range=where, body=body)
        assert sent["checksum"] == tree_hash(body)
    assert len(glacier.list_parts(**v, uploadId=upload)["Parts"]) == 3
    assert glacier.list_multipart_uploads(**v)["UploadsList"][0]["MultipartUploadId"] == upload
    done = glacier.complete_multipart_upload(
        **v, uploadId=upload, archiveSize=str(len(DATA)), checksum=tree_hash(DATA)
    )
    assert done["checksum"] == tree_hash(DATA)
    other = glacier.initiate_multipart_upload(**v, partSize=str(MIB))["uploadId"]
    glacier.abort_multipart_upload(**v, uploadId=other)
    single = glacier.upload_archive(**v, body=b"one", archiveDescription="one")["archiveId"]
    glacier.delete_archive(**v, archiveId=single)


def _settings_of_a_vault(glacier: Any, v: dict[str, str]) -> None:
    glacier.add_tags_to_vault(**v, Tags={"a": "1", "b": "2"})
    glacier.remove_tags_from_vault(**v, TagKeys=["a"])
    assert glacier.list_tags_for_vault(**v)["Tags"] == {"b": "2"}
    wanted = {"SNSTopic": TOPIC, "Events": ["InventoryRetrievalCompleted"]}
    glacier.set_vault_notifications(**v, vaultNotificationConfig=wanted)
    assert glacier.get_vault_notifications(**v)["vaultNotificationConfig"] == wanted
    glacier.delete_vault_notifications(**v)
    allow = {"Effect": "Allow", "Principal": "*", "Action": "glacier:*", "Resource": arn_of("boto")}
    text = json.dumps({"Statement": allow})
    glacier.set_vault_access_policy(**v, policy={"Policy": text})
    assert glacier.get_vault_access_policy(**v)["policy"] == {"Policy": text}
    glacier.delete_vault_access_policy(**v)
    for act in ("abort", "complete"):
        lock_id = glacier.initiate_vault_lock(**v, policy={"Policy": text})["lockId"]
        if act == "abort":
            glacier.abort_vault_lock(**v)
        else:
            glacier.complete_vault_lock(**v, lockId=lock_id)
    locked = glacier.get_vault_lock(**v)
    assert (locked["Policy"], locked["State"], "ExpirationDate" in locked) == (text, "Locked", False)


def _settings_of_the_account(glacier: Any) -> None:
    policy = {"Rules": [{"Strategy": "BytesPerHour", "BytesPerHour": 2**40}]}
    glacier.set_data_retrieval_policy(accountId="-", Policy=policy)
    assert glacier.get_data_retrieval_policy(accountId="-")["Policy"] == policy
    bought = glacier.purchase_provisioned_capacity(accountId="-")["capacityId"]
    units = glacier.list_provisioned_capacity(accountId="-")["ProvisionedCapacityList"]
    assert [unit["CapacityId"] for unit in units] == [bought]


def _jobs(glacier: Any, v: dict[str, str], own: RunningEmulator) -> None:
    own.make_inventories()
    assert glacier.describe_vault(**v)["NumberOfArchives"] == 1
    listing = glacier.initiate_job(**v, jobParameters={"Type": "inventory-retrieval"})["jobId"]
    own.advance(4 * HOURS)
    archives = json.loads(glacier.get_job_output(**v, jobId=listing)["body"].read())["ArchiveList"]
    assert [archive["ArchiveDescription"] for archive in archives] == ["a  b"]
    wanted = {"Type": "archive-retrieval", "ArchiveId": archives[0]["ArchiveId"], "Tier": "Bulk"}
    job = glacier.initiate_job(**v, jobParameters=wanted)["jobId"]
    own.advance(8 * HOURS)
    assert glacier.describe_job(**v, jobId=job)["StatusCode"] == "Succeeded"
    assert {entry["JobId"] for entry in glacier.list_jobs(**v)["JobList"]} == {listing, job}
    whole = glacier.get_job_output(**v, jobId=job)
    assert (whole["body"].read(), whole["checksum"], whole["archiveDescription"]) == (
        DATA,
        tree_hash(DATA),
        "a  b",
    )
    part = glacier.get_job_output(**v, jobId=job, range=f"bytes={MIB}-{2 * MIB - 1}")
    assert (part["status"], part["contentRange"]) == (206, f"bytes {MIB}-{2 * MIB - 1}/{len(DATA)}")
    assert glacier.list_vaults()["VaultList"]


def environment_on(own: RunningEmulator) -> dict[str, str]:
    """A process's environment, with the emulator and its key and nothing of this machine's AWS."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL_GLACIER": own.glacier_url,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
        "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@pytest.fixture(scope="module")
def aws(
    own: RunningEmulator, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Any]:
    """The AWS CLI in an environment of its own, kept with pytest's cache; called with words, answers JSON."""
    program = own_venv(request.config, "awscli", "awscli") / "aws"
    environment, home = environment_on(own), tmp_path_factory.mktemp("aws")

    def run(*words: str) -> Any:
        command = [str(program), "glacier", words[0], "--account-id=-", "--vault-name=cli", *words[1:]]
        told = other_clients.run(command, home, environment)
        return json.loads(told) if told.strip() else None

    return run


@pytest.mark.real
def test_the_aws_cli(own: RunningEmulator, aws: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(DATA[:MIB])
    (tmp_path / "rest").write_bytes(DATA[MIB : MIB + 5])
    assert aws("create-vault") == {"location": f"/{ACCOUNT_ID}/vaults/cli"}
    begun = aws("initiate-multipart-upload", f"--part-size={MIB}", "--archive-description=two parts")
    upload = f"--upload-id={begun['uploadId']}"
    ranges = (("data", f"bytes 0-{MIB - 1}/*"), ("rest", f"bytes {MIB}-{MIB + 4}/*"))
    for name, where in ranges:
        aws("upload-multipart-part", upload, f"--body={tmp_path / name}", f"--range={where}")
    whole = tree_hash(DATA[: MIB + 5])
    done = aws("complete-multipart-upload", upload, f"--archive-size={MIB + 5}", f"--checksum={whole}")
    retrieval = f"Type=archive-retrieval,ArchiveId={done['archiveId']},Tier=Expedited"
    job = f"--job-id={aws('initiate-job', f'--job-parameters={retrieval}')['jobId']}"
    own.advance(300)
    described = aws("describe-job", job)
    assert (described["Completed"], described["SHA256TreeHash"]) == (True, whole)
    shown = aws("get-job-output", job, str(tmp_path / "out"))
    assert (shown["status"], shown["acceptRanges"], shown["checksum"]) == (200, "bytes", whole)
    assert "contentRange" not in shown
    assert (tmp_path / "out").read_bytes() == DATA[: MIB + 5]
    shown = aws("get-job-output", job, f"--range=bytes={MIB}-{MIB + 4}", str(tmp_path / "part"))
    assert (shown["status"], (tmp_path / "part").read_bytes()) == (206, DATA[MIB : MIB + 5])
    aws("add-tags-to-vault", "--tags=a=1,b=2")
    assert aws("list-tags-for-vault") == {"Tags": {"a": "1", "b": "2"}}
    aws("delete-archive", f"--archive-id={done['archiveId']}")
    own.make_inventories()
    aws("delete-vault")


@pytest.fixture
def perl(own: RunningEmulator) -> Callable[..., Any]:
    """mt-aws-glacier's requests: its Host, its TE, no length without a body, a form that holds JSON."""
    talker = Talker(own.glacier_url)

    def ask(method: str, path: str, body: bytes = b"", query: str = "", **headers: str) -> Any:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body:
            given["content-length"] = str(len(body))
        if b"{" in body[:1]:
            given["content-type"] = "application/x-www-form-urlencoded; charset=utf-8"
        host = f"glacier.{REGION}.amazonaws.com"
        signed = talker.signed(method, path, body, given, query=query, host=host)
        odd = {"TE": "deflate,gzip;q=0.3", "Connection": "TE, close", "User-Agent": "mt-aws-glacier/1.120"}
        target = f"{path}?{query}" if query else path
        return talker.send(method, target, body, {**signed, **odd}, length=False)

    return ask


@pytest.mark.real
def test_mt_aws_glacier(own: RunningEmulator, perl: Callable[..., Any]) -> None:
    vault = f"/-/vaults/{new_vault_name()}"
    assert perl("PUT", vault).headers["x-amzn-requestid"]
    sizes = {"x_amz_part_size": str(MIB), "x_amz_archive_description": "mt2 eyJmaWxlbmFtZSI6ImEifQ"}
    upload = perl("POST", f"{vault}/multipart-uploads", **sizes).headers["x-amz-multipart-upload-id"]
    path = f"{vault}/multipart-uploads/{upload}"
    for at in range(0, len(DATA), MIB):
        body = DATA[at : at + MIB]
        hashes = {
            "x_amz_content_sha256": hashlib.sha256(body).hexdigest(),
            "x_amz_sha256_tree_hash": tree_hash(body),
        }
        where = f"bytes {at}-{at + len(body) - 1}/*"
        kind = {"content_type": "application/octet-stream"}
        assert perl("PUT", path, body, content_range=where, **hashes, **kind).status == 204
    total = {"x_amz_archive_size": str(len(DATA)), "x_amz_sha256_tree_hash": tree_hash(DATA)}
    archive = perl("POST", path, **total).headers["x-amz-archive-id"]
    wanted = json.dumps({"Type": "archive-retrieval", "ArchiveId": archive, "Description": "mtijob1 x"})
    job = perl("POST", f"{vault}/jobs", wanted.encode()).headers["x-amz-job-id"]
    own.advance(4 * HOURS)
    listed = perl("GET", f"{vault}/jobs", query="completed=true").json
    assert [entry["JobId"] for entry in listed["JobList"]] == [job]
    output = perl("GET", f"{vault}/jobs/{job}/output")
    assert (output.body, output.headers["content-length"]) == (DATA, str(len(DATA)))
    assert output.headers["x-amz-sha256-tree-hash"] == tree_hash(DATA)
    part = perl("GET", f"{vault}/jobs/{job}/output", range="bytes=0-1048575")
    assert (part.status, part.headers["content-range"]) == (206, f"bytes 0-1048575/{len(DATA)}")
    own.make_inventories()
    listing = perl("POST", f"{vault}/jobs", b'{"Type":"inventory-retrieval","Format":"CSV"}')
    own.advance(4 * HOURS)
    csv = perl("GET", f"{vault}/jobs/{listing.headers['x-amz-job-id']}/output")
    assert csv.headers["content-type"] == "text/csv"
    assert csv.body.split(b"\r\n")[1].startswith(archive.encode() + b",mt2 eyJ")
    assert perl("DELETE", f"{vault}/archives/{archive}").status == 204


@pytest.mark.real
def test_glacier_upload(own: RunningEmulator, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The tool of that name from PyPI: parts on threads, and the inventory."""
    program = own_venv(request.config, "glacier-upload", "glacier-upload==2.1.2") / "glacier"

    def run(*words: str) -> str:
        command = [str(program), *words]
        done = subprocess.run(
            command, env=environment_on(own), capture_output=True, text=True, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    talker, data = Talker(own.glacier_url), pattern(101 * MIB + 3)  # above 100 MiB it takes several parts
    talker.ask("PUT", "/-/vaults/tool")
    (tmp_path / "large").write_bytes(data)
    said = run("upload", "tool", "large", "--part-size", "16", "--num-threads", "4")
    assert "Upload successful" in said
    assert f"Glacier total tree hash: {tree_hash(data)}" in said
    own.make_inventories()
    job = run("inventory", "init-retrieval", "tool").split()[-1]
    own.advance(5 * HOURS)
    assert tree_hash(data) in run("inventory", "get", "--", "tool", job)  # ids may begin with a dash
