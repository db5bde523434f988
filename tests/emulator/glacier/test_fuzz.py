"""Whatever is sent, signed or not: an answer in Glacier's words, never a 500, never a file outside."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Struct

from backup.emulator.glacier.operations import OPERATIONS
from tests.support.emulated import RunningEmulator, strange_names, write_accounts
from tests.support.emulator_clients import Talker

EXAMPLES = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
HEADERS = (
    *("x-amz-part-size", "x-amz-archive-description", "x-amz-sha256-tree-hash", "x-amz-content-sha256"),
    *("content-range", "range", "x-amz-archive-size", "x-amz-glacier-version", "content-type", "te", "date"),
)


class Fuzzed(Struct, frozen=True):
    """An emulator with a vault, an upload and a job, and the folder that must not change."""

    talker: Talker
    folder: Path
    upload: str
    archive: str
    job: str

    def outside(self) -> list[str]:
        """Everything that is not the emulator's own."""
        return strange_names(self.folder)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    folder = tmp_path_factory.mktemp("fuzz")
    accounts = write_accounts(folder / "accounts.toml")
    with RunningEmulator(folder / "state", accounts, options=("--idle-seconds", "0.5")) as running:
        talker = Talker(running.glacier_url)
        talker.ask("PUT", "/-/vaults/v")
        begun = talker.ask("POST", "/-/vaults/v/multipart-uploads", headers={"x-amz-part-size": "1048576"})
        archive = talker.upload("/-/vaults/v/archives", b"x", {}).headers["x-amz-archive-id"]
        wanted = json.dumps({"Type": "archive-retrieval", "ArchiveId": archive}).encode()
        job = talker.ask("POST", "/-/vaults/v/jobs", wanted).headers["x-amz-job-id"]
        running.advance(4 * 3600)
        upload = begun.headers["x-amz-multipart-upload-id"]
        yield Fuzzed(talker, folder, upload, archive, job)


names = st.one_of(
    st.sampled_from(["v", "-", "..", ".", "a" * 300, "%2e%2e", "%2F", "%00", "nul\x00", "..%5c..", "~", "*"]),
    st.text(max_size=12).filter(bool),
)
values = st.one_of(
    st.sampled_from(
        [
            *("", "0", "-1", "1048576", "9" * 30, "bytes 0-0/*", "bytes 5-1/*", "bytes=0-", "bytes=9-9"),
            *("bytes 0-1048575/*", "e3" * 32, "x" * 5000, "2012-06-01", "AWS4-HMAC-SHA256", "bytes=-1"),
        ]
    ),
    st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=40).map(str.strip),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
KEYS = (
    *(
        "Type",
        "ArchiveId",
        "Description",
        "Format",
        "SNSTopic",
        "Tier",
        "RetrievalByteRange",
        "Tags",
        "TagKeys",
    ),
    *("InventoryRetrievalParameters", "StartDate", "EndDate", "Limit", "Marker", "Policy", "Events", "Rules"),
)
WORDS = (
    *("archive-retrieval", "inventory-retrieval", "Standard", "Expedited", "CSV", "0-0", "9" * 400, "from-1"),
    *("2013-03-20T17:03:43Z", "2012-01-01Z", "Z", "0001-01-01T00:00:00Z", "\ud800", "{}", '{"Statement":[]}'),
)
documents = st.dictionaries(
    st.sampled_from(KEYS),
    st.sampled_from(WORDS) | json_values | st.dictionaries(st.sampled_from(KEYS), st.sampled_from(WORDS)),
    max_size=5,
)
bodies = st.one_of(st.binary(max_size=60), documents.map(lambda value: json.dumps(value).encode()))
queries = st.lists(
    st.tuples(
        st.sampled_from(["limit", "marker", "completed", "statuscode", "operation", "X-Amz-Signature", "%"]),
        st.sampled_from(["add", "remove", "1", "0", "true", "Failed", "%ff", "%00", "9" * 40, ""]) | names,
    ),
    max_size=3,
)


def _tail(number: int, fuzzed: Fuzzed, vault: str, target: str) -> str:
    """A path of one of the operations, with any names in it or with those that exist."""
    known = {"UP": fuzzed.upload, "ARCHIVE": fuzzed.archive, "JOB": fuzzed.job}
    path = OPERATIONS[number].path.pattern
    path = path.replace("(?P<account>[^/]+)", "-").replace("(?P<vault>[^/]+)", quote(vault, safe=""))
    return path.replace("(?P<target>[^/]+)", quote(known.get(target, target), safe=""))


@EXAMPLES
@given(
    number=st.integers(0, len(OPERATIONS) - 1),
    vault=st.just("v") | names,
    target=st.sampled_from(["UP", "ARCHIVE", "JOB"]) | names,
    headers=st.dictionaries(st.sampled_from(HEADERS), values, max_size=4),
    body=bodies,
    query=queries,
)
def test_signed_nonsense(
    fuzzed: Fuzzed,
    number: int,
    vault: str,
    target: str,
    headers: dict[str, str],
    body: bytes,
    query: list[tuple[str, str]],
) -> None:
    operation = OPERATIONS[number]
    if operation.name in ("InitiateVaultLock", "SetVaultAccessPolicy") and vault == "v":
        vault = "w"  # a policy that denies everything would end the fuzzing
    if operation.flag is not None:
        query = [*query, operation.flag]
    pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in query)
    path = _tail(number, fuzzed, vault, target)
    written = "&".join(f"{k}={v}" for k, v in pairs)
    canonical = quote(path, safe="/-_.~")
    signed = fuzzed.talker.signed(operation.method, canonical, body, headers, query=written)
    signed |= {k: v for k, v in headers.items() if k == "range"}
    reply = fuzzed.talker.send(operation.method, f"{path}?{written}" if written else path, body, signed)
    assert reply.status < 500, reply.body
    if reply.status >= 400:
        assert set(reply.json) == {"code", "message", "type"}
    assert fuzzed.outside() == ["accounts.toml", "state"]


@EXAMPLES
@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "OPTIONS", "BREW"]),
    path=st.lists(names, min_size=1, max_size=6).map(lambda parts: "/" + quote("/".join(parts), safe="/%")),
    headers=st.dictionaries(st.sampled_from(("authorization", "host", "x-amz-date", *HEADERS)), values),
    body=bodies,
)
def test_unsigned_nonsense(
    fuzzed: Fuzzed, method: str, path: str, headers: dict[str, str], body: bytes
) -> None:
    reply = fuzzed.talker.send(method, path, body, {"host": "x", **headers})
    assert 400 <= reply.status < 500, reply.body
    assert method == "HEAD" or set(reply.json) == {"code", "message", "type"}


@EXAMPLES
@given(
    pieces=st.lists(
        st.binary(max_size=30)
        | st.sampled_from(
            [
                *(
                    b"GET / HTTP/1.1\r\n",
                    b"Host: x\r\n",
                    b"\r\n",
                    b"\r\n\r\n",
                    b"POST /-/vaults/v HTTP/1.1\r\n",
                ),
                *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"ffffffff\r\n"),
                *(b"Expect: 100-continue\r\n", b"HTTP/0.9", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b": x\r\n"),
            ]
        ),
        min_size=1,
        max_size=8,
    )
)
def test_bytes_that_may_be_no_http(fuzzed: Fuzzed, pieces: list[bytes]) -> None:
    where = urlsplit(fuzzed.talker.url)
    with socket.create_connection((where.hostname or "", where.port or 0), timeout=0.05) as connection:
        connection.sendall(b"".join(pieces))
        try:
            answer = http.client.HTTPResponse(connection)
            answer.begin()
        except (TimeoutError, http.client.HTTPException, ConnectionError):
            return  # it waits for more
        assert answer.status < 500 or answer.status == 501


def test_it_still_answers(fuzzed: Fuzzed) -> None:
    reply: Any = fuzzed.talker.ask("GET", "/-/vaults/v").json
    assert reply["VaultName"] == "v"
