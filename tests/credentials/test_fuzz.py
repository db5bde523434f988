"""Certificates, keys, settings and answers that were mutated: errors in our words only, never a traceback."""

from __future__ import annotations

import base64
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from backup.credentials.certificate import certificate_facts
from backup.credentials.chain import chain_problem
from backup.credentials.identity import IdentityFiles, check_validity, load_certificates, load_identity
from backup.credentials.options import RolesAnywhereOptions
from backup.credentials.selector import parse_selector
from backup.credentials.signer import SessionRequest, sign_request
from backup.errors import ConfigError, NightvaultError, UsageError
from tests.support.byte_changes import CHANGES, changed
from tests.support.identities import ANCHOR, PROFILE, ROLE, identity_in, vectors, write
from tests.support.scratch_server import SECRET, TOKEN, Answer, ask, keys_until

NOW = datetime(2026, 3, 1, tzinfo=UTC)
VECTORS = vectors()


def armoured(name: str) -> tuple[bytes, bytes, bytes]:
    """A PEM block's first line, its DER, and its last line."""
    lines = VECTORS[name].strip().splitlines()
    return lines[0].encode(), base64.b64decode("".join(lines[1:-1])), lines[-1].encode()


def use(certificate: bytes, key: bytes) -> None:
    """Everything that a program does with an identity before it sends."""
    with tempfile.TemporaryDirectory() as folder:
        files = IdentityFiles(write(f"{folder}/c", certificate), write(f"{folder}/k", key))
        with suppress(NightvaultError):
            identity = load_identity(files)
            check_validity(identity.certificate, NOW)
            certificate_facts(identity.certificate, identity.chain, NOW)
            chain_problem(
                identity.certificate,
                identity.chain,
                load_certificates(write(f"{folder}/r", VECTORS["root"])),
                NOW,
            )
            sign_request(SessionRequest("host", "eu-central-1", b"{}"), identity, NOW)
        with suppress(NightvaultError):
            certificate_facts(load_certificates(files.certificate)[0], [], NOW)


@settings(max_examples=150, deadline=None)
@given(kind=st.sampled_from(["rsa", "ec"]), part=st.sampled_from(["cert", "key"]), changes=CHANGES)
def test_der_that_was_changed(kind: str, part: str, changes: list[tuple[int, str, int]]) -> None:
    first, der, last = armoured(f"{kind}_{part}")
    damaged = b"\n".join([first, base64.encodebytes(changed(der, changes)), last])
    whole = {"cert": VECTORS[f"{kind}_cert"].encode(), "key": VECTORS[f"{kind}_key"].encode()}
    use(
        **{
            "certificate": whole["cert"],
            "key": whole["key"],
            {"cert": "certificate"}.get(part, part): damaged,
        }
    )


@settings(max_examples=60, deadline=None)
@given(changes=CHANGES, both=st.booleans())
def test_pem_that_was_changed(changes: list[tuple[int, str, int]], both: bool) -> None:
    key = VECTORS["ec_key"].encode()
    use(changed(VECTORS["ec_cert"].encode(), changes), changed(key, changes) if both else key)


@settings(max_examples=80, deadline=None)
@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"0", b"0\x82\x01\x00", b"-----BEGIN "]))
def test_bytes_that_are_nothing(data: bytes, start: bytes) -> None:
    use(start + data, start + data)


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(max_size=60),
    where=st.sampled_from(["trust_anchor_arn", "profile_arn", "role_arn", "endpoint"]),
)
def test_settings_that_are_nothing(text: str, where: str) -> None:
    given_: dict[str, Any] = {
        "trust_anchor_arn": ANCHOR,
        "profile_arn": PROFILE,
        "role_arn": ROLE,
        where: text,
    }
    with suppress(ConfigError):
        assert RolesAnywhereOptions(**given_).host


@given(st.text(max_size=60))
def test_selectors_that_are_nothing(text: str) -> None:
    with suppress(UsageError):
        assert parse_selector(text.replace("file:", "")) is not None


def test_answers_that_were_changed(tmp_path: Path) -> None:
    signer = identity_in(str(tmp_path))
    good = keys_until(datetime(2030, 1, 1, tzinfo=UTC) + timedelta(hours=1))
    told: list[str] = []

    @settings(max_examples=80, deadline=None)
    @given(changes=CHANGES, status=st.sampled_from([200, 201, 204, 302, 400, 403, 404, 429, 500, 503]))
    def judge(changes: list[tuple[int, str, int]], status: int) -> None:
        try:
            ask(Answer(status, changed(good.body, changes)), signer)
        except NightvaultError as error:
            told.append(f"{error} {error.advice}")

    judge()
    assert told
    assert not [text for text in told if SECRET in text or f"{TOKEN}1" in text]
