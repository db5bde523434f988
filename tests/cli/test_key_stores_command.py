"""Keys in a TPM, in a token and in PKCS#12 through the commands, by flags and by a whole config.toml."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import Struct

from backup.cli.keys.sign_string import signed_text
from backup.credentials.identity import load_certificates
from backup.credentials.keys import has_signed
from tests.cli.helper_world import World, list_vaults
from tests.support.identities import write
from tests.support.key_stores import PIN, SOFTHSM, Tpm, call, certified, make_token, running_tpm

PASSWORD = "tpm password of the commands"
HANDLE = "handle:0x81000301"
P_256 = ("-algorithm", "EC", "-pkeyopt", "group:P-256")
SWTPM = pytest.mark.key_store("swtpm")


class InTpm(Struct, frozen=True):
    """A certificate, its key in a TPM, and how the TPM is found."""

    certificate: str
    key: str
    tcti: str


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tpm]:
    with running_tpm(tmp_path_factory.mktemp("tpm")) as running:
        yield running


@pytest.fixture(scope="module", params=["handle", "tss2"])
def in_tpm(
    request: pytest.FixtureRequest, world: World, tpm: Tpm, tmp_path_factory: pytest.TempPathFactory
) -> InTpm:
    """A key with a password: at a handle, and in the PEM file of tpm2-openssl."""
    folder = tmp_path_factory.mktemp(request.param)
    public = folder / "public"
    if request.param == "handle":
        key = HANDLE
        tpm.persistent_key(HANDLE.removeprefix("handle:"), folder, "ecc:ecdsa", PASSWORD)
    else:
        key = str(folder / "key.pem")
        tpm.tss2_key(Path(key), *P_256, password=PASSWORD)
    tpm.public_key(key, public, PASSWORD)
    return InTpm(certified(world.authority, public), key, tpm.tcti)


@SWTPM
def test_a_tpms_key_by_flags(world: World, in_tpm: InTpm, tmp_path: Path) -> None:
    place = ("--certificate", in_tpm.certificate, "--private-key", in_tpm.key)
    found = {"TPM2TOOLS_TCTI": in_tpm.tcti}
    typed = world.keys(*place, *world.session, "--no-cache", "--tpm-key-password", PASSWORD, **found)
    assert list_vaults(world, typed) == []
    file = write(str(tmp_path / "password"), PASSWORD)
    read = world.keys(*place, *world.session, "--no-cache", "--passphrase-file", file, **found)
    assert list_vaults(world, read) == []
    signed = world.run("sign-string", *place, "--passphrase-file", file, "--format", "bin", **found).stdout
    certificate = load_certificates(in_tpm.certificate)[0]
    assert has_signed(certificate, signed, signed_text(certificate))


@SWTPM
def test_a_tpm_that_refuses_is_an_identitys_failure(world: World, in_tpm: InTpm) -> None:
    words = ("credential-process", "--certificate", in_tpm.certificate, "--private-key", in_tpm.key)
    wrong = world.run(
        *words, *world.session, "--no-cache", "--tpm-key-password", "wrong", TPM2TOOLS_TCTI=in_tpm.tcti
    )
    assert (wrong.returncode, wrong.stdout) == (13, b"")
    assert b"the password does not open the TPM's key" in wrong.stderr
    absent = world.run(*words, *world.session, "--no-cache", TPM2TOOLS_TCTI="swtpm:host=127.0.0.1,port=9")
    assert absent.returncode == 13
    assert b"the TPM" in absent.stderr


@SWTPM
def test_a_tpms_key_by_the_config(world: World, in_tpm: InTpm, tmp_path: Path) -> None:
    file = write(str(tmp_path / "password"), PASSWORD)
    config = str(world.config(tmp_path, in_tpm.certificate, in_tpm.key, passphrase_file=file))
    found = {"TPM2TOOLS_TCTI": in_tpm.tcti}
    assert list_vaults(world, world.keys("--config", config, "--no-cache", **found)) == []
    shown = world.run("--json", "--config", config, "identity", "show", **found)
    assert json.loads(shown.stdout)["key_store"].startswith("TPM"), shown
    kept = tmp_path / "aws"
    words = ("--config", config, "update", "--once")
    assert world.run(*words, AWS_SHARED_CREDENTIALS_FILE=str(kept), **found).returncode == 0
    assert "aws_session_token" in kept.read_text()


@pytest.mark.key_store("softhsm")
@pytest.mark.parametrize("pin", ["file", "uri", "source"])
def test_a_tokens_key_by_the_config(world: World, tmp_path: Path, pin: str) -> None:
    token = make_token(tmp_path, f"conf {pin}")
    token.import_key(world.key, "web1", "0a")
    token.import_certificate(world.certificate, "web1", "0a")
    file = write(str(tmp_path / "pin"), PIN)
    opens: dict[str, dict[str, str]] = {"file": {"passphrase_file": file}}
    query = {"uri": f"?pin-value={PIN}", "source": f"?pin-source=file:{file}"}.get(pin, "")
    uri = f"pkcs11:token=conf%20{pin};object=web1{query}"
    config = world.config(tmp_path, uri, uri, pkcs11_module=SOFTHSM, **opens.get(pin, {}))
    assert list_vaults(world, world.keys("--config", str(config), "--no-cache")) == []
    shown = world.run("--json", "--config", str(config), "identity", "show")
    assert "token" in json.loads(shown.stdout)["key_store"].lower(), shown
    assert PIN.encode() not in shown.stdout + shown.stderr


def test_pkcs12_by_the_config(world: World, tmp_path: Path) -> None:
    file, store = write(str(tmp_path / "secret"), "a p12's passphrase\n"), str(tmp_path / "id.p12")
    parts = ("-inkey", world.key, "-in", world.certificate, "-certfile", world.authority.certificate_path)
    call("openssl", "pkcs12", "-export", *parts, "-passout", f"file:{file}", "-out", store)
    config = world.config(tmp_path, store, store, passphrase_file=file)
    assert list_vaults(world, world.keys("--config", str(config), "--no-cache")) == []
