"""No command of the family, and nothing of the library, ever tells a secret: all that is said is searched."""

from __future__ import annotations

import dataclasses
import logging
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct
from msgspec.structs import replace

from backup.app import SystemClock
from backup.cli.keys.identity_flags import Flags
from backup.credentials import (
    IdentityFiles,
    RolesAnywhere,
    RolesAnywhereOptions,
    boto3_session,
    load_identity,
)
from backup.credentials.connection import Connection, open_pool
from backup.credentials.key_stores.keyfiles import passphrase_of
from backup.credentials.pkcs11_uri import parse_pkcs11_uri
from backup.credentials.serving.cache import CachedCredentials
from backup.credentials.serving.imds import Imds
from backup.credentials.signer import SessionRequest
from backup.errors import NightvaultError
from backup.protocols import CredentialSource
from tests.cli.helper_world import ANCHOR, PROFILE, ROLE, World
from tests.cli.listener import Listener
from tests.support.identities import write
from tests.support.key_stores import PIN, SOFTHSM, call, certified, make_token, running_tpm
from tests.support.scratch_server import SECRET, TOKEN, Answer, ScratchServer, keys_until, no

pytestmark = pytest.mark.slow

PASSPHRASE = "correct horse & battery/staple ü"
WRONG = "a wrong passphrase, a secret for all we know"
WRONG_PIN = "9182-wrong-pin"
TPM_PASSWORD = "tpm password never told"
PROXY_PASSWORD = "proxy-password-never-told"
SECRETS = {
    "the secret access key": SECRET,
    "the session token": TOKEN,
    "the passphrase": PASSPHRASE,
    "a wrong passphrase": WRONG,
    "the PIN": PIN,
    "a wrong PIN": WRONG_PIN,
    "the TPM key's password": TPM_PASSWORD,
    "the proxy's password": PROXY_PASSWORD,
}
ARE_SECRETS = {
    "secret_access_key",
    "session_token",
    "passphrase",
    "given",
    "pkcs8_password",
    "tpm_key_password",
}
"""Attributes that are a secret, so that their own `repr` is."""

HOLDERS = ("cache", "right", "wrong", "encrypted", "id.", "aws", "pin", "config")
"""Beginnings of names of files and folders that are there to hold a secret."""

LOUD = ("--verbose", "--json")
GOOD = keys_until(datetime.now(UTC) + timedelta(hours=1))
ANSWERS = {
    "good": GOOD,
    "cut": replace(GOOD, body=GOOD.body[:-30]),
    "with a wrong type": replace(GOOD, body=GOOD.body.replace(b'"expiration": "', b'"expiration": "x')),
    "of the past": keys_until(datetime(2020, 1, 1, tzinfo=UTC)),
    "refused with keys in it": replace(GOOD, status=403),
    "failed with keys in it": replace(GOOD, status=500),
    "redirected with keys in it": replace(GOOD, status=302, headers={"Location": "http://127.0.0.1:9/"}),
    "denied": no("Invalid signature", Date="Tue, 03 Mar 2020 10:00:00 GMT"),
    "throttled": no("slow down", "ThrottlingException", 429),
    "dropped": Answer(drop=True),
    "no JSON": replace(GOOD, body=b"<html>" + GOOD.body),
    "no text": replace(GOOD, body=b"\xff" + GOOD.body),
}


class Scene(Struct, frozen=True):
    """A world, one who listens, and keys in stores that need a secret."""

    world: World
    listener: Listener
    folder: Path
    encrypted: str
    pkcs12: str
    right: str
    wrong: str

    def say(self, *words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command as loudly as can be and hear all of it but the keys that it must print."""
        home = {"TMPDIR": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache"), **more}
        done = self.world.run(*LOUD, *words, **home)
        self.listener.hear(f"{' '.join(words)[:60]} (stderr)", done.stderr)
        if not (words[0] == "credential-process" and done.returncode == 0):
            self.listener.hear(f"{' '.join(words)[:60]} (stdout)", done.stdout)
        assert b"Traceback" not in done.stdout
        return done


@pytest.fixture
def scene(world: World, tmp_path: Path) -> Iterator[Scene]:
    listener = Listener(SECRETS)
    right, wrong = write(f"{tmp_path}/right", PASSPHRASE), write(f"{tmp_path}/wrong", WRONG)
    encrypted, pkcs12 = str(tmp_path / "encrypted.pem"), str(tmp_path / "id.p12")
    secret = f"file:{right}"
    call("openssl", "pkcs8", "-topk8", "-in", world.key, "-passout", secret, "-out", encrypted)
    parts = ("-inkey", world.key, "-in", world.certificate, "-passout", secret)
    call("openssl", "pkcs12", "-export", *parts, "-out", pkcs12)
    listener.plant_key("the private key", world.key)
    listener.plant_key("the encrypted private key", encrypted)
    yield Scene(world, listener, tmp_path, encrypted, pkcs12, right, wrong)
    listener.hear_files("a file", tmp_path, but=HOLDERS)
    assert listener.amount > 100
    assert listener.told() == []


def test_the_listener_hears(world: World) -> None:
    listener = Listener(SECRETS)
    listener.plant_key("key", world.key)
    listener.hear("nobody", "nothing")
    assert listener.told() == []
    listener.hear("somebody", f"the keys: {PIN}", Path(world.key).read_bytes(), SECRET.encode().hex())
    assert listener.told() == [
        "somebody told the PIN",
        "somebody told key",
        "somebody told the secret access key",
    ]


def test_with_every_answer(scene: Scene) -> None:
    files = ("--certificate", scene.world.certificate, "--private-key", scene.world.key)

    def ask(name: str) -> tuple[str, int]:
        with ScratchServer(lambda _number: ANSWERS[name]).running() as server:
            words = (*files, *scene.world.session, "--endpoint", server.url, "--debug")
            return name, scene.say("credential-process", *words, "--no-cache").returncode

    with ThreadPoolExecutor(len(ANSWERS)) as at_once:  # most wait between their tries
        codes = dict(at_once.map(ask, ANSWERS))
    assert {name for name, code in codes.items() if code == 0} == {"good"}, codes


def test_of_every_command(scene: Scene) -> None:
    files = ("--certificate", scene.world.certificate, "--private-key", scene.encrypted)
    with ScratchServer(lambda _number: GOOD).running() as server:
        session = (*scene.world.session, "--endpoint", server.url, "--debug")
        for opener in (("--pkcs8-password", PASSPHRASE), ("--passphrase-file", scene.right)):
            assert scene.say("sign-string", *files, *opener, "--debug").returncode == 0
            assert scene.say("read-certificate-data", *files, *opener, "--debug").returncode == 0
            assert scene.say("credential-process", *files, *opener, *session).returncode == 0
            target = {"AWS_SHARED_CREDENTIALS_FILE": str(scene.folder / "aws")}
            assert scene.say("update", *files, *opener, *session, "--once", **target).returncode == 0
    config = str(scene.world.config(scene.folder, scene.pkcs12, scene.pkcs12, passphrase_file=scene.right))
    for words in (("identity", "show"), ("aws", "policy"), ("config", "check"), ("vaults",)):
        scene.say("--config", config, *words)
    assert scene.say("--config", config, "identity", "show").returncode == 0


def test_when_the_secret_is_wrong(scene: Scene) -> None:
    world = scene.world
    for certificate, key in ((world.certificate, scene.encrypted), (scene.pkcs12, scene.pkcs12)):
        for opener in (("--pkcs8-password", WRONG), ("--passphrase-file", scene.wrong), ()):
            files = ("--certificate", certificate, "--private-key", key, *opener, "--debug")
            assert scene.say("sign-string", *files).returncode == 13
            assert scene.say("credential-process", *files, *world.session).returncode == 13
            assert scene.say("update", *files, *world.session, "--once").returncode == 13
            assert scene.say("serve", *files, *world.session, "--port", "0").returncode == 13
        config = str(world.config(scene.folder, certificate, key, passphrase_file=scene.wrong))
        assert scene.say("--config", config, "identity", "show").returncode == 13
    # A key where something else is meant, and a secret on the command line beside a mistake.
    assert scene.say("sign-string", "--certificate", world.key, "--private-key", world.key).returncode == 13
    pair = ("--certificate", world.certificate, "--private-key", world.key)
    assert scene.say("sign-string", *pair, "--passphrase-file", world.key).returncode == 13
    assert scene.say("credential-process", f"--pkcs8-password={PASSPHRASE}", "--nonsense").returncode == 2
    assert scene.say("credential-process", "--config", world.key).returncode == 2
    assert scene.say("credential-process", "--cert-selector", f"file://{world.key}").returncode == 2


def test_where_nothing_can_be_written(scene: Scene) -> None:
    files = ("--certificate", scene.world.certificate, "--private-key", scene.world.key)
    with ScratchServer(lambda _number: GOOD).running() as server:
        session = (*scene.world.session, "--endpoint", server.url, "--debug")
        scene.say("credential-process", *files, *session, XDG_CACHE_HOME="/dev/null/none")
        for place in ("/dev/null/credentials", "/proc/credentials"):
            done = scene.say("update", *files, *session, "--once", AWS_SHARED_CREDENTIALS_FILE=place)
            assert done.returncode != 0
        (scene.folder / "cache" / "nightvault").mkdir(parents=True)
        write(str(scene.folder / "cache" / "nightvault" / "credentials"), "no folder")
        scene.say("credential-process", *files, *session)


def test_through_a_proxy_that_is_not_there(scene: Scene) -> None:
    files = ("--certificate", scene.world.certificate, "--private-key", scene.world.key)
    for proxy in (f"http://me:{PROXY_PASSWORD}@127.0.0.1:9", f"ftp://me:{PROXY_PASSWORD}@127.0.0.1:9"):
        words = ("credential-process", *files, *scene.world.session, "--no-cache", "--with-proxy", "--debug")
        assert scene.say(*words, HTTP_PROXY=proxy, http_proxy=proxy).returncode in {2, 15}


@pytest.mark.key_store("softhsm")
def test_of_a_token(scene: Scene) -> None:
    world, debug = scene.world, ("--pkcs11-lib", SOFTHSM, "--debug")
    token = make_token(scene.folder, "told")
    token.import_key(world.key, "web1", "0a")
    token.import_certificate(world.certificate, "web1", "0a")
    for pin, code in ((PIN, 0), (WRONG_PIN, 13)):
        file = write(str(scene.folder / f"pin{code}"), pin)
        for query in (f"?pin-value={pin}", f"?pin-source=file:{file}", f"?pin-value={pin}&nonsense=1"):
            uri = f"pkcs11:token=told;object=web1{query}"
            files = ("--certificate", uri, "--private-key", uri, *debug)
            expected = 13 if "nonsense" in query else code
            assert scene.say("sign-string", *files).returncode == expected
            assert (
                scene.say("credential-process", *files, *world.session, "--no-cache").returncode == expected
            )
            scene.say("read-certificate-data", "--certificate", uri, *debug)
            config = str(world.config(scene.folder, uri, uri, pkcs11_module=SOFTHSM))
            assert scene.say("--config", config, "identity", "show").returncode == expected
            scene.say("--config", config, "aws", "policy")
    elsewhere = f"pkcs11:token=none;object=x?pin-value={PIN}"
    assert scene.say("sign-string", "--certificate", elsewhere, *debug).returncode == 13
    scene.listener.hear("repr", repr(parse_pkcs11_uri(elsewhere)), repr(Flags(certificate=elsewhere)))


@pytest.mark.key_store("swtpm")
def test_of_a_tpm(scene: Scene) -> None:
    with running_tpm(scene.folder) as tpm:
        key, public = scene.folder / "encrypted-tpm.pem", scene.folder / "public"
        tpm.tss2_key(key, "-algorithm", "EC", "-pkeyopt", "group:P-256", password=TPM_PASSWORD)
        tpm.public_key(key, public, TPM_PASSWORD)
        certificate = certified(scene.world.authority, public)
        for password, code in ((TPM_PASSWORD, 0), (WRONG, 13)):
            files = ("--certificate", certificate, "--private-key", str(key), "--tpm-key-password", password)
            found = {"TPM2TOOLS_TCTI": tpm.tcti}
            assert scene.say("sign-string", *files, "--debug", **found).returncode == code
            words = (*files, *scene.world.session, "--debug", "--no-cache")
            assert scene.say("credential-process", *words, **found).returncode == code


@pytest.mark.parametrize("place", ["sign_request", "Credentials", "urllib3.Timeout"])
def test_when_we_crash(scene: Scene, place: str) -> None:
    code = (
        "import sys\nfrom backup.cli import main\nimport backup.credentials.createsession as inner\n"
        "def crash(*given, **more): raise RuntimeError('crash')\n"
        f"inner.{place} = crash\nmain()"
    )
    words = ["--verbose", "credential-process", f"--pkcs8-password={PASSPHRASE}", "--debug", "--no-cache"]
    flags = ["--certificate", scene.world.certificate, "--private-key", scene.encrypted]
    with ScratchServer(lambda _number: GOOD).running() as server:
        done = subprocess.run(
            [sys.executable, "-c", code, *words, *flags, *scene.world.session, "--endpoint", server.url],
            env=scene.world.environment(TMPDIR=str(scene.folder)),
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    assert b"unexpected RuntimeError" in done.stderr
    assert list(scene.folder.glob("nightvault-crash-*.log"))
    scene.listener.hear("a crash", done.stdout, done.stderr)


def everything(
    source: RolesAnywhere, files: IdentityFiles, options: RolesAnywhereOptions
) -> Sequence[object]:
    """All objects that somebody who uses the library may print."""
    identity = load_identity(files)
    keys = source.credentials()
    session = boto3_session(source, "eu-central-1")
    client = session.client("glacier", endpoint_url="http://127.0.0.1:9")
    held = session.get_credentials()
    cached = CachedCredentials(source, "/none", options, SystemClock(), datetime.now(UTC))
    request = SessionRequest("host", "eu-central-1", b"{}")
    flags = Flags(pkcs8_password=PASSPHRASE, tpm_key_password=TPM_PASSWORD)
    own = (identity, identity.key, files, passphrase_of(files), options, source, keys, cached, request, flags)
    return (*own, session, client, held, Imds(source, "role", SystemClock()), Connection())


def test_of_the_library(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    files = IdentityFiles(scene.world.certificate, scene.encrypted, passphrase=PASSPHRASE.encode())
    with caplog.at_level(logging.DEBUG), ScratchServer(lambda _number: GOOD).running() as server:
        options = RolesAnywhereOptions(ANCHOR, PROFILE, ROLE, endpoint=server.url)
        source = source_with(files, options)
        for thing in everything(source, files, options):
            scene.listener.hear(f"repr of {type(thing).__name__}", repr(thing), str(thing))
            for name, value in inside(thing).items():
                scene.listener.hear(f"repr of {type(thing).__name__}.{name}", repr(value))
        with suppress(Exception):
            boto3_session(source, "eu-central-1").client(
                "glacier", endpoint_url="http://127.0.0.1:9"
            ).list_vaults()
    for answer in ANSWERS.values():
        with (
            caplog.at_level(logging.DEBUG),
            ScratchServer(lambda _number, given=answer: given).running() as server,  # type: ignore[misc]
        ):
            hear_failure(scene, files, dataclasses.replace(options, endpoint=server.url))
    hear_failure(scene, dataclasses.replace(files, passphrase=WRONG.encode()), options)
    scene.listener.hear("the log", caplog.text, *(repr(vars(record)) for record in caplog.records))


class HurriedClock(SystemClock):
    """Does not wait between tries."""

    def sleep(self, seconds: float) -> None:
        """At once."""


def source_with(files: IdentityFiles, options: RolesAnywhereOptions) -> RolesAnywhere:
    pool = open_pool(options, Connection(proxies=False))
    return RolesAnywhere(options, load=lambda: load_identity(files), clock=HurriedClock(), http=pool)


def hear_failure(scene: Scene, files: IdentityFiles, options: RolesAnywhereOptions) -> None:
    source: CredentialSource = source_with(files, options)
    try:
        source.credentials()
    except NightvaultError as error:
        linked: BaseException | None = error
        while linked is not None:
            scene.listener.hear(f"repr of {type(linked).__name__}", repr(linked), repr(vars(linked)))
            linked = linked.__cause__ or linked.__context__
        scene.listener.hear("a traceback", "".join(traceback.format_exception(error)))


def inside(thing: object) -> dict[str, Any]:
    """What of an object other tools look at: its public attributes that are ours."""
    if not type(thing).__module__.startswith("backup."):
        return {}
    names = [name for name in dir(thing) if not name.startswith("_")]
    hidden = {
        "secret_access_key",
        "session_token",
        "passphrase",
        "given",
        "pkcs8_password",
        "tpm_key_password",
    }
    return {name: getattr(thing, name) for name in names if name not in hidden}
