"""Identities, configs, flags and answers that were mutated: the commands say sentences, never a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from backup.cli import main
from backup.errors import ExitCode
from tests.support.byte_changes import CHANGES, changed
from tests.support.command_line import ANCHOR, PROFILE, CliAt
from tests.support.doubles import ManualClock
from tests.support.identities import ROLE, authority_in, issue_in
from tests.support.key_stores import call
from tests.support.scratch_server import SECRET, TOKEN, Answer, ScratchServer, keys_until

NOW = datetime(2026, 3, 1, tzinfo=UTC)
FORESEEN = {code.value for code in ExitCode}
GOOD = keys_until(NOW + timedelta(hours=1))
LAW = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
Run = Callable[..., str]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every form of an identity, whole."""
    folder = tmp_path_factory.mktemp("whole")
    made = issue_in(authority_in(str(folder / "ca"), NOW), str(folder), now=NOW)
    pair = ("-inkey", made.key_path, "-in", made.certificate_path)
    call("openssl", "pkcs12", "-export", *pair, "-passout", "pass:secret", "-out", folder / "p12")
    encrypted = ("-topk8", "-in", made.key_path, "-passout", "pass:secret")
    call("openssl", "pkcs8", *encrypted, "-out", folder / "encrypted")
    return {
        "certificate": Path(made.certificate_path).read_bytes(),
        "key": Path(made.key_path).read_bytes(),
        "p12": (folder / "p12").read_bytes(),
        "encrypted": (folder / "encrypted").read_bytes(),
    }


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command that may fail, but only in our words; what it said."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def run(*words: str) -> str:
        result = CliRunner().invoke(main, list(words), obj=CliAt(ManualClock(NOW)))
        assert result.exit_code in FORESEEN, result.output
        assert "unexpected" not in result.output, result.output
        assert "Traceback" not in result.output
        return result.output

    return run


def put(folder: Path, name: str, data: bytes) -> str:
    path = folder / name
    path.write_bytes(data)
    return str(path)


@LAW
@example(changes=[(255, "flip", 47)], what="certificate")  # a curve that nobody knows
@given(changes=CHANGES, what=st.sampled_from(["certificate", "key", "p12", "encrypted"]))
def test_files_that_were_changed(
    run: Run, tmp_path: Path, files: dict[str, bytes], changes: list[tuple[int, str, int]], what: str
) -> None:
    damaged = put(tmp_path, "damaged", changed(files[what], changes))
    whole = put(tmp_path, "certificate", files["certificate"])
    key = put(tmp_path, "key", files["key"])
    pair = {"certificate": (damaged, key), "p12": (damaged, damaged)}.get(what, (whole, damaged))
    opener = ("--pkcs8-password", "secret") if what in {"p12", "encrypted"} else ()
    flags = ("--certificate", pair[0], "--private-key", pair[1], *opener)
    run("sign-string", *flags)
    run("read-certificate-data", "--certificate", pair[0], *opener)


@LAW
@given(changes=CHANGES)
def test_configs_that_were_changed(
    run: Run, tmp_path: Path, files: dict[str, bytes], changes: list[tuple[int, str, int]]
) -> None:
    certificate, key = (put(tmp_path, name, files[name]) for name in ("certificate", "key"))
    text = (
        f'[identity]\ncertificate = "{certificate}"\nprivate_key = "{key}"\n[roles_anywhere]\n'
        f'region = "eu-central-1"\ntrust_anchor_arn = "{ANCHOR}"\nprofile_arn = "{PROFILE}"\n'
        f'endpoint = "http://127.0.0.1:9"\nsession_duration = 3600\n[[vault]]\nname = "v"\nkind = "glacier"\n'
        f'region = "eu-central-1"\nvault = "v"\nrole_arn = "{ROLE}"\n'
    )
    config = put(tmp_path, "config.toml", changed(text.encode(), changes))
    run("--config", config, "identity", "show")
    run("--config", config, "config", "check")
    run("--config", config, "aws", "policy")


FLAG = st.sampled_from(
    [
        "--certificate",
        "--private-key",
        "--cert-selector",
        "--intermediates",
        "--role-arn",
        "--region",
        "--profile-arn",
        "--trust-anchor-arn",
        "--endpoint",
        "--session-duration",
        "--passphrase-file",
    ]
)
VALUE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40) | st.sampled_from(
    [
        "pkcs11:",
        "pkcs11:token=%zz",
        "pkcs11:a=b?pin-value=x",
        "handle:0x81",
        "/",
        "/dev/null",
        ANCHOR,
        "https://[",
    ]
)


@LAW
@given(st.lists(st.tuples(FLAG, VALUE), max_size=5))
def test_flags_that_are_nothing(run: Run, given_: list[tuple[str, str]]) -> None:
    assume(not any("/dev/" in value and value != "/dev/null" for _, value in given_))
    words = [f"{flag}={value}" for flag, value in given_]
    run("credential-process", *words, "--config", os.devnull)


def test_answers_that_were_changed(run: Run, tmp_path: Path, files: dict[str, bytes]) -> None:
    flags = (
        "--certificate",
        put(tmp_path, "c", files["certificate"]),
        "--private-key",
        put(tmp_path, "k", files["key"]),
    )
    arns = ("--trust-anchor-arn", ANCHOR, "--profile-arn", PROFILE, "--role-arn", ROLE, "--no-cache")
    now: list[Answer] = [GOOD]
    with ScratchServer(lambda _number: now[0]).running() as server:

        @LAW
        @given(
            changes=CHANGES,
            status=st.sampled_from([200, 201, 302, 400, 403, 404, 407, 429, 500, 503]),
            kind=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20),
        )
        def judge(changes: list[tuple[int, str, int]], status: int, kind: str) -> None:
            now[0] = Answer(status, changed(GOOD.body, changes), {"x-amzn-ErrorType": kind, "Date": kind})
            said = run("credential-process", *flags, *arns, "--endpoint", server.url)
            assert '"Version":1' in said or not (SECRET in said or f"{TOKEN}1" in said)

        judge()
