"""A hostile host with all it has: nothing but its own row, bounded work, and it is named."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from backup.center.receive import MOST_CHAINS
from backup.credentials.identity import Identity, IdentityFiles, load_identity
from backup.format.host_report import CERTIFICATE, CHAIN, MOST_BYTES, SIGNATURE
from backup.pki.authority import open_ca
from backup.pki.index import Reason
from backup.pki.revoking import revoke, sign_crls
from tests.support.centers import CHAIN as FIRST
from tests.support.centers import Center, body_of, center_database, needs_postgresql, new_center
from tests.support.identities import authority_in, issue_in

pytestmark = [pytest.mark.real, pytest.mark.slow, needs_postgresql]

NAMES = [
    "<script>alert(1)</script>",
    "'; DROP TABLE hosts; --",
    "../../etc/passwd",
    "web1\nnightvault: all is well",
    "\x1b[2J\x1b]0;owned\x07",
    "\u202egnol",
    "${jndi:ldap://x}",
    "%s%s%n",
    "a" * 5000,
]


@pytest.fixture(scope="module")
def center(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Center]:
    with center_database() as (_, url):
        made = new_center(tmp_path_factory.mktemp("center"), url)
        with made.served():
            yield made


@pytest.fixture(scope="module")
def web(center: Center) -> Identity:
    """A host that is as it should be, and must stay so."""
    identity = center.identity("web1")
    assert center.send(identity, body_of()) == (200, {"taken": "new"})
    return identity


@pytest.fixture(scope="module")
def mallory(center: Center) -> Identity:
    """A host with a certificate of the authority, in somebody else's hands."""
    return center.identity("mallory")


def shown(center: Center, name: str) -> Any:
    return center.command("show", name)


Attempt = Callable[[Center, Identity, Identity], tuple[int, Any]]


def of_another_authority(center: Center, name: str, **life: Any) -> Identity:
    folder = center.folder / f"other-{os.urandom(4).hex()}"
    authority = authority_in(str(folder / "ca"), datetime.now(UTC))
    issued = issue_in(authority, str(folder / "out"), name=name, now=datetime.now(UTC), **life)
    return load_identity(IdentityFiles(issued.certificate_path, issued.key_path))


def expired(center: Center) -> Identity:
    folder = str(center.folder / f"old-{os.urandom(4).hex()}")
    then = datetime.now(UTC) - timedelta(days=9)
    issued = issue_in(center.authority, folder, name="mallory", now=then, days=2)
    return load_identity(IdentityFiles(issued.certificate_path, issued.key_path))


def another_body(center: Center, web: Identity, identity: Identity) -> tuple[int, Any]:
    headers = center.signed(identity, body_of())
    return center.post(body_of(program="2.0"), headers)


def chain_of_many(center: Center, web: Identity, identity: Identity) -> tuple[int, Any]:
    coded = center.signed(identity, body_of())[CERTIFICATE]
    return center.send(identity, body_of(), **{CHAIN: ",".join([coded] * 9)})


def with_the_certificate_of(center: Center, victim: Identity, mine: Identity) -> tuple[int, Any]:
    body = body_of(chain="e" * 32)
    return center.send(mine, body, **{CERTIFICATE: center.signed(victim, body)[CERTIFICATE]})


def bare(center: Center, web: Identity, mallory: Identity) -> tuple[int, Any]:
    return center.post(body_of(), {"Host": f"127.0.0.1:{center.port}"})


def impostor(center: Center, web: Identity, mallory: Identity) -> tuple[int, Any]:
    return center.send(of_another_authority(center, "web1"), body_of())


def late(center: Center, web: Identity, mallory: Identity) -> tuple[int, Any]:
    return center.send(expired(center), body_of())


def says(body: bytes, **headers: str) -> Attempt:
    """What mallory sends, signed by its own key, with other headers."""
    return lambda center, web, mallory: center.send(mallory, body, **headers)


def tells(changes: Any) -> Attempt:
    return says(body_of(changes=changes))


REFUSED: dict[str, tuple[int, Attempt]] = {
    "no certificate": (403, bare),
    "a certificate that is none": (403, says(body_of(), **{CERTIFICATE: "AAAA"})),
    "a certificate that is no base64": (403, says(body_of(), **{CERTIFICATE: "%"})),
    "another's certificate": (403, with_the_certificate_of),
    "another authority, the same name": (403, impostor),
    "an expired certificate": (403, late),
    "no signature": (403, says(body_of(), **{SIGNATURE: ""})),
    "a signature of something else": (403, another_body),
    "nine certificates above": (403, chain_of_many),
    "a request to another center": (403, says(body_of(), Host="other.example")),
    "a report of 1 GB, by its length": (413, says(b"", **{"Content-Length": str(10**9)})),
    "more than may be": (413, says(b" " * (MOST_BYTES + 1))),
    "no JSON": (400, says(b"<xml/>")),
    "nothing": (400, says(b"")),
    "half a million brackets": (400, says(b"[" * 500_000)),
    "a later version": (400, says(b'{"version": 7}')),
    "a number below one": (400, says(body_of(0))),
    "a number beyond all": (400, says(body_of(2**62))),
    "a chain that is a path": (400, says(body_of(chain="../../" + "a" * 26))),
    "a year of six digits": (400, says(body_of(at=2**52))),
    "a NUL": (400, tells({"to": {"a": "\0"}})),
    "no mapping": (400, tells({"to": [1]})),
    "changes that are none": (400, tells({"run": "rm -rf /"})),
    "too many values": (400, tells({"to": {"a": [0] * 60_000}})),
    "too deep": (400, tells({"to": json.loads('{"a":' * 40 + "1" + "}" * 40)})),
    "another's chain, its next number": (409, says(body_of(2))),
    "a chain that began long ago": (409, says(body_of(chain="c" * 32, at=1_600_000_000))),
    "an unknown chain, later": (409, says(body_of(5, chain="d" * 32))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused_and_nothing_of_another_changes(
    center: Center, web: Identity, mallory: Identity, name: str
) -> None:
    before = shown(center, "web1")
    status, attempt = REFUSED[name]
    answered, document = attempt(center, web, mallory)
    assert (answered, set(document)) == (status, {"error"}), document
    assert shown(center, "web1") == before
    assert {host["name"] for host in center.command("list")["hosts"]} <= {"web1", "mallory", "flood", "twice"}


@pytest.mark.parametrize("number", range(len(NAMES)))
def test_whatever_it_says_is_text_and_its_own(
    center: Center, web: Identity, mallory: Identity, number: int
) -> None:
    word, chain = NAMES[number], f"{number:032x}"
    told = {"well": False, "jobs": [{"job": word, "overdue_from": word}], word: word}
    told["concerns"] = [{"text": word, "level": "critical"}, word, None]
    before = shown(center, "web1")
    assert center.send(mallory, body_of(chain=chain, changes={"to": told}, program=word[:100]))[0] == 200
    document = shown(center, "mallory")
    assert document["told"] == told
    assert document["standing"] in {"set back", "critical"}
    for words in (("list",), ("show", "mallory"), ("status",)):
        text = center.admin.run("center", *words, "--database", center.url).stdout
        assert not set(text) & {"\x1b", "\x07", "\u202e", "\0"}
        assert "\nnightvault: all is well" not in text
    assert shown(center, "web1") == before


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"jobs": "all", "concerns": 7, "well": "yes"},
        {"jobs": [{"overdue_from": "2026-13-45"}, {"overdue_from": -1}, 5], "well": 1},
        {"jobs": [{"overdue_from": "0001-01-01T00:00:00+14:00"}], "concerns": [{}]},
        {"jobs": [{"overdue_from": "9999-12-31T23:59:59-14:00", "last_good": "2300-01-01", "schedule": {}}]},
        {"vaults": [{"bytes": 10**18, "month": "1e99999999"}] * 1000, "currency": ["USD"]},
        {
            "vaults": [{"bytes": -1, "month": "sNaN"}, {"bytes": True, "month": 5}, "x"],
            "currency": "\u202e" * 99,
        },
        {"well": 10**300, "n": -0.0},
        {"jobs": [{"job": "j"}] * 9000},
    ],
)
def test_a_document_of_any_shape_is_shown(center: Center, mallory: Identity, told: Any) -> None:
    told = told | {"x": os.urandom(4).hex()}
    assert center.send(mallory, body_of(chain=os.urandom(16).hex(), changes={"to": told}))[0] in {200, 429}
    assert shown(center, "mallory")["standing"] != "well"


def test_a_replay_counts_once_and_changes_nothing(center: Center, web: Identity) -> None:
    old = body_of(chain="a" * 32, before=FIRST, before_number=1)
    assert center.send(web, old) == (200, {"taken": "new"})
    second = body_of(2, chain="a" * 32, changes={"in": {"well": {"to": False}}})
    headers = center.signed(web, second)
    assert center.post(second, headers) == (200, {"taken": "new"})
    assert center.post(second, headers) == (200, {"taken": "again"})
    before = shown(center, "web1")
    for replayed in (old, body_of()):
        assert center.send(web, replayed)[0] == 409
    other = body_of(2, chain="a" * 32, changes={"in": {"well": {"to": True}}})
    assert center.send(web, other)[0] == 409
    assert {**shown(center, "web1"), "last_at": 0} == {**before, "last_at": 0}


def test_a_flood_of_chains_is_ended(center: Center) -> None:
    flood = center.identity("flood")
    answers = [center.send(flood, body_of(chain=os.urandom(16).hex()))[0] for _ in range(MOST_CHAINS + 5)]
    assert answers == [200] * MOST_CHAINS + [429] * 5


def test_one_report_sent_at_once_counts_once(center: Center) -> None:
    twice, answers = center.identity("twice"), list[tuple[int, Any]]()
    body = body_of(chain="b" * 32)
    headers = center.signed(twice, body)
    threads = [threading.Thread(target=lambda: answers.append(center.post(body, headers))) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(json.dumps(answer) for answer in answers) == sorted(
        ['[200, {"taken": "new"}]'] + ['[200, {"taken": "again"}]'] * 11
    )
    assert shown(center, "twice")["reports"] == 1


def test_a_revoked_certificate_is_refused_from_the_list_on(tmp_path: Path) -> None:
    with center_database() as (_, url):
        center = new_center(tmp_path, url)
        thief, web = center.identity("thief"), center.identity("web1")
        folder = str(center.folder / "ca")
        (empty,) = sign_crls([open_ca(folder)], days=7, now=datetime.now(UTC))
        with center.served("--uninvited", "--crl", empty.path) as log:
            assert center.send(thief, body_of())[0] == 200
            now = datetime.now(UTC)
            serial = f"{thief.certificate.serial_number:x}"
            revoke(folder, serial, every=False, reason=Reason.KEY_COMPROMISE, now=now)
            sign_crls([open_ca(folder)], days=7, now=now)
            time.sleep(6)  # it looks at its files every five seconds
            status, told = center.send(thief, body_of(2, changes={}))
            assert (status, told) == (403, {"error": "the certificate is revoked"})
            assert center.send(web, body_of())[0] == 200
        assert "the certificate is revoked" in log.read_text()
