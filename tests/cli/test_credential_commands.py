"""The commands that stand in for the AWS helper, as processes against the emulator: keys, exit codes, no
secrets."""

from __future__ import annotations

import base64
import json
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509 import load_der_x509_certificate

from backup.cli.keys.sign_string import signed_text
from backup.credentials.identity import load_certificates
from backup.credentials.keys import has_signed
from tests.cli.helper_world import ROLE, SCRIPT, World, ask, list_vaults
from tests.support.emulated import REGION
from tests.support.key_stores import PIN, SOFTHSM, make_token
from tests.support.scratch_server import SECRET, TOKEN, ScratchServer, keys_until, no


def test_the_keys_work_and_the_json_is_the_helpers(world: World) -> None:
    keys = world.keys(*world.flags, "--no-cache")
    assert list(keys) == ["Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"]
    assert keys["Version"] == 1
    assert datetime.fromisoformat(keys["Expiration"]) > datetime.now(UTC) + timedelta(minutes=59)
    assert list_vaults(world, keys) == []


def test_the_cache_is_by_identity_and_role_and_off_by_flag(world: World, tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    first = world.keys(*world.flags, **cache)
    assert world.keys(*world.flags, **cache) == first
    assert world.keys(*world.flags, "--no-cache", **cache) != first
    assert world.keys(*world.flags, "--session-duration", "900", **cache) != first
    files = list((tmp_path / "nightvault" / "credentials").glob("*.json"))
    assert len(files) == 2
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}


def test_without_flags_the_identity_is_the_configs(world: World, tmp_path: Path) -> None:
    config = world.config(tmp_path, world.certificate, world.key)
    assert list_vaults(world, world.keys("--config", str(config), "--no-cache")) == []


def test_boto3_runs_it_as_its_credential_process(world: World, tmp_path: Path) -> None:
    command = " ".join([SCRIPT, "credential-process", *world.flags, "--no-cache"])
    aws = tmp_path / "config"
    aws.write_text(f"[default]\nregion = {REGION}\ncredential_process = {command}\n")
    code = (
        "import boto3, sys\n"
        "client = boto3.client('glacier', endpoint_url=sys.argv[1])\n"
        "print(client.list_vaults()['VaultList'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, world.emulator.glacier_url],
        env=world.environment(AWS_CONFIG_FILE=str(aws), AWS_EC2_METADATA_DISABLED="true"),
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout == "[]\n", done.stderr


HEAVY = (
    "boto3",
    "botocore",
    "sqlalchemy",
    "rich",
    "alembic",
    "apscheduler",
    "zstandard",
    "pkcs11",
    "tpm2_pytss",
)


def imported(world: World, tmp_path: Path, *words: str) -> set[str]:
    """The top-level packages (and ours whole) that a successful `credential-process` has imported."""
    code = (
        "import sys\nfrom backup.cli import main\n"
        "try: main()\n"
        "except SystemExit: print('\\n' + ' '.join(sys.modules))"
    )
    command = [sys.executable, "-c", code, "credential-process", *world.flags, *words]
    environment = world.environment(XDG_CACHE_HOME=str(tmp_path))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert "AccessKeyId" in done.stdout, done.stderr
    names = done.stdout.splitlines()[-1].split()
    return {name if name.startswith("backup") else name.partition(".")[0] for name in names}


def test_nothing_heavy_is_imported_for_a_pem_key(world: World, tmp_path: Path) -> None:
    found = imported(world, tmp_path)
    assert not found & set(HEAVY)
    assert {"urllib3", "cryptography"} <= found


def test_keys_of_the_cache_cost_neither_cryptography_nor_http(world: World, tmp_path: Path) -> None:
    imported(world, tmp_path)
    found = imported(world, tmp_path)
    assert not found & {
        *HEAVY,
        "urllib3",
        "cryptography",
        "msgspec",
        "backup.model",
        "ssl",
        "http",
        "email",
        "tempfile",
    }
    assert {name for name in found if name.startswith("backup.credentials.")} == {
        f"backup.credentials.{name}"
        for name in ("arns", "options", "identity_paths", "pkcs11_uri", "serving", "serving.cache")
    }


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (("--certificate", "C", "--cert-selector", "Key=x509Subject,Value=CN=a"), 2, "exclude each other"),
        (("--system-store-name", "MY"), 2, "on Windows alone"),
        (("--private-key", "K"), 2, "--private-key needs --certificate"),
        (("F", "--certificate", "/none", "--private-key", "/none"), 13, "/none is missing"),
        (("--certificate", "C", "--private-key", "K"), 2, "--trust-anchor-arn is missing"),
        (("F", "--trust-anchor-arn", "arn:x"), 2, "--trust-anchor-arn: 'arn:x' is not an ARN"),
        (("F", "--session-duration", "60"), 2, "--session-duration: 60 s is not between"),
        (("F", "--region", "us-east-1"), 2, "--region"),
        (("F", "--role-arn", f"{ROLE}x"), 14, "is not in the profile"),
        (("F", "--endpoint", "http://127.0.0.1:9"), 15, "cannot be reached"),
        (("F", "--endpoint", "http://elsewhere.example"), 2, "unencrypted"),
        (("F", "--pkcs8-password", "battery"), 13, "is not encrypted, although"),
        (("F", "--tpm-key-password", "a", "--pkcs8-password", "b"), 2, "exclude each other"),
        (("--cert-selector", "nonsense"), 2, "--cert-selector"),
    ],
)
def test_each_mistake_has_its_exit_code(world: World, words: tuple[str, ...], code: int, why: str) -> None:
    known = {"C": [world.certificate], "K": [world.key], "F": [*world.flags, "--no-cache"]}
    done = world.run("credential-process", *[part for word in words for part in known.get(word, [word])])
    said = done.stderr.decode()
    assert done.returncode == code, said
    assert why in said
    assert done.stdout == b""
    assert "Traceback" not in said
    assert "battery" not in said


def test_no_secret_in_what_debug_tells(world: World) -> None:
    now = datetime.now(UTC)
    with ScratchServer(lambda number: keys_until(now + timedelta(hours=1), number)).running() as server:
        done = world.run(
            "--verbose", "credential-process", *world.flags, "--endpoint", server.url, "--no-cache", "--debug"
        )
    said = done.stderr.decode()
    assert done.returncode == 0, said
    assert "POST http://127.0.0.1" in said
    assert "status 201" in said
    secrets = (SECRET, TOKEN, Path(world.key).read_text().splitlines()[1])
    assert not [secret for secret in secrets if secret in said]


def test_the_clock_is_named_when_a_request_is_denied(world: World) -> None:
    refusal = no("Invalid signature", Date="Tue, 03 Mar 2020 10:00:00 GMT")
    with ScratchServer(lambda _number: refusal).running() as server:
        done = world.run("credential-process", *world.flags, "--endpoint", server.url, "--no-cache")
    assert done.returncode == 14
    assert b"ahead of the server's" in done.stderr


def test_throttling_is_tried_again(world: World) -> None:
    now = datetime.now(UTC)

    def answer(number: int) -> object:
        return (
            no("slow down", "ThrottlingException", 429)
            if number == 1
            else keys_until(now + timedelta(hours=1))
        )

    with ScratchServer(answer).running() as server:  # type: ignore[arg-type]
        done = world.run("credential-process", *world.flags, "--endpoint", server.url, "--no-cache")
        assert len(server.seen) == 2
    assert done.returncode == 0


def test_proxies_count_with_the_flag_alone(world: World) -> None:
    nowhere = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    words = ("credential-process", *world.flags, "--no-cache")
    assert world.run(*words, **nowhere).returncode == 0
    assert world.run(*words, "--with-proxy", **nowhere).returncode == 15
    assert world.run(*words, "--with-proxy", **nowhere, NO_PROXY="127.0.0.1").returncode == 0


def test_a_certificate_that_ends_soon_is_told(world: World) -> None:
    done = world.run("credential-process", *world.flags, "--no-cache", "--warn-days", "40")
    assert done.returncode == 0
    assert b"the certificate of CN=web1 expires in 29 days" in done.stderr
    assert world.run("credential-process", *world.flags, "--no-cache").stderr == b""


@pytest.mark.key_store("softhsm")
def test_a_certificate_is_selected_on_a_token(world: World, tmp_path: Path) -> None:
    token = make_token(tmp_path, "selected")
    token.import_key(world.key, "web1", "0a")
    token.import_certificate(world.certificate, "web1", "0a")
    pin = tmp_path / "pin"
    pin.write_text(PIN)
    selector = ("--cert-selector", "Key=x509Subject,Value=CN=web1 Key=x509Issuer,Value=CN=Helper CA")
    token_flags = ("--pkcs11-lib", SOFTHSM)
    keys = world.keys(*selector, *token_flags, *world.session, "--passphrase-file", str(pin), "--no-cache")
    assert list_vaults(world, keys) == []
    chosen = tmp_path / "selector.json"
    chosen.write_text('[{"Key": "x509Subject", "Value": "CN=nobody"}]')
    done = world.run(
        "credential-process", "--cert-selector", f"file://{chosen}", *token_flags, *world.session
    )
    assert done.returncode == 13
    assert b"no certificate on a token fits" in done.stderr
    listed = world.run("read-certificate-data", *selector, *token_flags).stdout.decode()
    assert listed.startswith("Matching identities\n1) ")
    assert "URI: pkcs11:token=selected;" in listed


def test_read_certificate_data(world: World) -> None:
    document = json.loads(world.run("read-certificate-data", "--certificate", world.certificate).stdout)
    certificate = load_certificates(world.certificate)[0]
    assert document["keyType"] == "EC"
    assert document["serialNumber"] == str(certificate.serial_number)
    assert load_der_x509_certificate(base64.b64decode(document["certificateData"])) == certificate
    assert document["supportedAlgorithms"] == ["ECSHA256"]


@pytest.mark.parametrize("form", ["json", "text", "bin"])
def test_sign_string_is_verified(world: World, form: str) -> None:
    """As the helper prints it, json is a string, and nothing follows the last character."""
    done = world.run(
        "sign-string", "--certificate", world.certificate, "--private-key", world.key, "--format", form
    )
    out = done.stdout
    signature = {
        "json": lambda: bytes.fromhex(json.loads(out)),
        "text": lambda: bytes.fromhex(out.decode()),
        "bin": lambda: out,
    }[form]()
    assert (
        out
        == {
            "json": f'"{signature.hex()}"'.encode(),
            "text": signature.hex().encode(),
            "bin": signature,
        }[form]
    )
    certificate = load_certificates(world.certificate)[0]
    assert has_signed(certificate, signature, signed_text(certificate))


def test_update_once_writes_one_profile_and_nothing_else(world: World, tmp_path: Path) -> None:
    file = tmp_path / "aws" / "credentials"
    file.parent.mkdir()
    others = b"# mine\n[other]\naws_access_key_id = AKIAOTHER\nregion = x\n"
    file.write_bytes(others)
    file.chmod(0o644)
    words = ("update", *world.flags, "--once", "--profile", "night")
    done = world.run(*words, AWS_SHARED_CREDENTIALS_FILE=str(file))
    assert done.returncode == 0, done.stderr
    assert file.read_bytes().startswith(others)
    assert file.stat().st_mode & 0o777 == 0o600
    code = "import boto3; print(boto3.Session(profile_name='night').get_credentials().token is not None)"
    environment = world.environment(AWS_SHARED_CREDENTIALS_FILE=str(file))
    read = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert read.stdout == "True\n", read.stderr


def test_writers_do_not_lose_each_others_profiles(world: World, tmp_path: Path) -> None:
    file = tmp_path / "credentials"

    def write(name: str) -> None:
        world.run("update", *world.flags, "--once", "--profile", name, AWS_SHARED_CREDENTIALS_FILE=str(file))

    threads = [threading.Thread(target=write, args=(f"p{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(line for line in file.read_text().splitlines() if line.startswith("[")) == [
        f"[p{n}]" for n in range(4)
    ]


def test_serve_hands_out_keys_to_boto3(world: World) -> None:
    with world.process("serve", *world.flags, "--port", "0") as process:
        assert process.stdout is not None
        endpoint = process.stdout.readline().strip().partition("=")[2]
        where = endpoint.removesuffix("/")
        assert endpoint == f"{where}/"
        keys_url = f"{where}/latest/meta-data/iam/security-credentials"
        assert ask(keys_url) == (401, "no token provided")
        status, token = ask(f"{where}/latest/api/token", "PUT", X_aws_ec2_metadata_token_ttl_seconds="60")
        assert (status, len(token)) == (200, 100)
        assert ask(f"{keys_url}/", X_aws_ec2_metadata_token=token) == (200, "Writer")
        assert ask(keys_url, Host="evil.example")[0] == 403
        assert ask(f"{where}/latest/api/token", "PUT", X_Forwarded_For="10.0.0.1")[0] == 400
        code = (
            "import boto3, sys\n"
            "client = boto3.client('glacier', endpoint_url=sys.argv[1], region_name='eu-central-1')\n"
            "print(client.list_vaults()['VaultList'])\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, world.emulator.glacier_url],
            env=world.environment(AWS_EC2_METADATA_SERVICE_ENDPOINT=endpoint),
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout == "[]\n", done.stderr


def test_the_hop_limit_is_on_every_packet(world: World) -> None:
    minimum = 21  # Linux's IP_MINTTL: a socket that sees no packet with fewer hops left
    with world.process("serve", *world.flags, "--port", "0", "--hop-limit", "7") as process:
        assert process.stdout is not None
        port = int(process.stdout.readline().strip().rstrip("/").rpartition(":")[2])
        for least, heard in ((7, True), (8, False)):
            with socket.socket() as client:
                client.settimeout(5 if heard else 0.7)
                client.setsockopt(socket.IPPROTO_IP, minimum, least)
                if not heard:
                    with pytest.raises(TimeoutError):
                        client.connect(("127.0.0.1", port))
                    continue
                client.connect(("127.0.0.1", port))
                client.sendall(b"PUT /latest/api/token HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_serve_tells_a_mistake_at_once(world: World) -> None:
    done = world.run("serve", *world.flags, "--role-arn", f"{ROLE}x", "--port", "0")
    assert done.returncode == 14
    assert done.stdout == b""


def test_the_time_to_credentials_is_short(world: World) -> None:
    took = []
    for _ in range(3):
        began = time.perf_counter()
        with world.process("credential-process", *world.flags, "--no-cache") as program:
            assert program.wait(60) == 0
        took.append(time.perf_counter() - began)
    assert min(took) < 3  # about 0.3; the rest is for a busy machine
