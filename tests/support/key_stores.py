"""Real key stores for tests: a SoftHSM token and a software TPM, where their packages are installed."""

from __future__ import annotations

import glob
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec import Struct

from backup.pki.authority import Authority

PIN = "4711-token-pin"
SOFTHSM = next(
    (
        path
        for path in glob.glob("/usr/lib/softhsm/libsofthsm2.so")
        + glob.glob("/usr/lib/*/softhsm/libsofthsm2.so")
    ),
    "",
)


def _missing() -> dict[str, str]:
    """What each key store lacks on this machine, as a sentence; nothing for one that can be used."""
    from importlib.util import find_spec

    softhsm = bool(SOFTHSM and shutil.which("softhsm2-util") and shutil.which("pkcs11-tool"))
    tools = all(map(shutil.which, ("swtpm", "tpm2_createprimary", "tpm2_evictcontrol", "openssl")))
    return {
        "softhsm": "" if softhsm and find_spec("pkcs11") else "needs Debian's softhsm2 and opensc",
        "swtpm": ""
        if tools and find_spec("tpm2_pytss")
        else "needs Debian's swtpm, tpm2-tools, tpm2-openssl and libtss2-dev, and the extra tpm",
    }


MISSING = _missing()
REQUIRED = "NIGHTVAULT_KEY_STORES"
"""The environment's list of stores (`softhsm,swtpm`) whose tests must run: one that cannot is a failure."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test of a key store that is not here, or fail it if it must be; a hook of pytest."""
    for mark in item.iter_markers("key_store"):
        store = mark.args[0]
        if MISSING[store] and store in os.environ.get(REQUIRED, "").split(","):
            pytest.fail(f"{REQUIRED} wants {store}: it {MISSING[store]}", pytrace=False)
        if MISSING[store]:
            pytest.skip(MISSING[store])


def call(*words: str | Path, **environment: str) -> str:
    """Run a program that must succeed; its output."""
    done = subprocess.run(
        [str(word) for word in words],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


class Token(Struct, frozen=True):
    """A SoftHSM token named `label`."""

    label: str
    pin: str = PIN

    def import_key(self, path: str, label: str, key_id: str, *, always: bool = False) -> None:
        """Bring a PEM key in; `always` lets it want the PIN before every signature."""
        if not always:
            bringing = (
                "--token",
                self.label,
                "--pin",
                self.pin,
                "--import",
                path,
                "--label",
                label,
                "--id",
                key_id,
            )
            call("softhsm2-util", *bringing)
            return
        der = f"{path}.der"
        call("openssl", "pkey", "-in", path, "-outform", "DER", "-out", der)
        words = (
            "--write-object",
            der,
            "--type",
            "privkey",
            "--always-auth",
            "--label",
            label,
            "--id",
            key_id,
        )
        self._tool(*words, "--usage-sign")

    def import_certificate(self, path: str, label: str, key_id: str) -> None:
        """Bring a PEM certificate in."""
        call("openssl", "x509", "-in", path, "-outform", "DER", "-out", f"{path}.der")
        self._tool("--write-object", f"{path}.der", "--type", "cert", "--label", label, "--id", key_id)

    def _tool(self, *words: str) -> None:
        call(
            "pkcs11-tool",
            "--module",
            SOFTHSM,
            "--token-label",
            self.label,
            "--login",
            "--pin",
            self.pin,
            *words,
        )


def make_token(directory: Path, label: str) -> Token:
    """A new token below `directory`; SOFTHSM2_CONF in the environment is set for good, once for a process."""
    configuration = directory / "softhsm2.conf"
    if not configuration.exists():
        (directory / "tokens").mkdir()
        configuration.write_text(f"directories.tokendir = {directory / 'tokens'}\nlog.level = ERROR\n")
    os.environ["SOFTHSM2_CONF"] = str(configuration)
    words = ("--init-token", "--free", "--label", label, "--so-pin", "87654321", "--pin", PIN)
    call("softhsm2-util", *words)
    return Token(label)


class Tpm(Struct, frozen=True):
    """A software TPM that listens at `tcti`."""

    tcti: str

    @property
    def environment(self) -> Mapping[str, str]:
        """How openssl's provider and the tools find it."""
        return {"TPM2OPENSSL_TCTI": self.tcti, "TPM2TOOLS_TCTI": self.tcti}

    def flush(self) -> None:
        """Make room: without a resource manager what was loaded stays."""
        call("tpm2_flushcontext", "-t", **self.environment)

    def tss2_key(self, path: Path, *algorithm: str, password: str | None = None) -> None:
        """Make a key that only this TPM can load."""
        secret = () if password is None else ("-pkeyopt", f"user-auth:{password}")
        provider = ("-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2")
        call("openssl", "genpkey", *provider, *algorithm, *secret, "-out", path, **self.environment)
        self.flush()

    def public_key(self, key: str | Path, path: Path, password: str | None = None) -> None:
        """Write the public half of a key of this TPM."""
        if str(key).startswith("handle:"):
            handle = str(key).removeprefix("handle:")
            call("tpm2_readpublic", "-c", handle, "-f", "pem", "-o", path, **self.environment)
        else:
            provider = ("-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2")
            secret = () if password is None else ("-passin", f"pass:{password}")
            words = ("-in", key, *secret, "-pubout", "-out", path)
            call("openssl", "pkey", *provider, *words, **self.environment)
        self.flush()

    def persistent_key(
        self, handle: str, directory: Path, algorithm: str, password: str | None = None
    ) -> None:
        """Make a key and keep it at `handle`."""
        primary, context = directory / "primary.ctx", directory / "key.ctx"
        call("tpm2_createprimary", "-C", "o", "-c", primary, **self.environment)
        secret = () if password is None else ("-p", password)
        public, private = directory / "key.pub", directory / "key.priv"
        words = ("-C", primary, "-G", algorithm, *secret, "-u", public, "-r", private)
        call("tpm2_create", *words, **self.environment)
        self.flush()
        words = ("-C", primary, "-u", public, "-r", private, "-c", context)
        call("tpm2_load", *words, **self.environment)
        call("tpm2_evictcontrol", "-C", "o", "-c", context, handle, **self.environment)
        self.flush()


@contextmanager
def running_tpm(directory: Path) -> Iterator[Tpm]:
    """A software TPM on two free ports of loopback, as long as the block lasts."""
    port, control = _free_ports()
    state = directory / "state"
    state.mkdir()
    server = (
        "--server",
        f"type=tcp,port={port},bindaddr=127.0.0.1",
        "--ctrl",
        f"type=tcp,port={control},bindaddr=127.0.0.1",
    )
    words = (
        "swtpm",
        "socket",
        "--tpm2",
        "--tpmstate",
        f"dir={state}",
        *server,
        "--flags",
        "not-need-init,startup-clear",
    )
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            _wait_for(control)
            yield Tpm(f"swtpm:host=127.0.0.1,port={port}")
        finally:
            process.terminate()


def certified(authority: Authority, public: Path) -> str:
    """A certificate for a public key, whose private half can sign no request here."""
    path, extensions = public.with_suffix(".pem"), public.with_suffix(".ext")
    extensions.write_text("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n")
    key = Path(authority.certificate_path).with_name("ca.key")
    signing = ("-CA", authority.certificate_path, "-CAkey", key, "-days", "9", "-extfile", extensions)
    call("openssl", "x509", "-new", "-force_pubkey", public, "-subj", "/CN=tpm", *signing, "-out", path)
    return str(path)


def _free_ports() -> tuple[int, int]:
    """Two neighbours: tpm2-tss looks for the control channel one above."""
    for _ in range(100):
        with socket.create_server(("127.0.0.1", 0)) as one:
            port = one.getsockname()[1]
            try:
                with socket.create_server(("127.0.0.1", port + 1)):
                    return port, port + 1
            except OSError:
                continue
    raise AssertionError("no two neighbouring ports are free")


def _wait_for(port: int) -> None:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError("swtpm does not listen")


def tell_how_many_ran(terminalreporter: Any) -> None:
    """Say how many tests used a real token or TPM; `tests/conftest.py` hands it on."""
    counts = dict.fromkeys(("passed", "failed", "skipped"), 0)
    for outcome in counts:
        reports = terminalreporter.stats.get(outcome, [])
        counts[outcome] = sum("key_store" in report.keywords for report in reports)
    if any(counts.values()):
        told = ", ".join(f"{number} {outcome}" for outcome, number in counts.items() if number)
        terminalreporter.write_line(f"real key stores (SoftHSM, swtpm): {told}")
