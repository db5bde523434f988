"""Settings: how they are changed, and that mistakes are named."""

from __future__ import annotations

import pytest
import urllib3

from backup.emulator.core.state.settings import Settings, changed, from_text
from tests.support.emulated import RunningEmulator
from tests.support.emulator_clients import Talker


def test_texts_of_the_command_line() -> None:
    settings = from_text(from_text(Settings(), "tag_limit=10"), "chunked_uploads=false")
    assert settings == Settings(tag_limit=10, chunked_uploads=False)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (3, "Give an object"),
        ({"tag_limits": 10}, "no setting 'tag_limits'"),
        ({"tag_limit": True}, "must be a number"),
        ({"tag_limit": 11}, "must be one of"),
        ({"chunked_uploads": 1}, "must be true or false"),
        ({"free_tier_bytes_per_day": -1}, "must be a number"),
    ],
)
def test_mistakes(raw: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        changed(Settings(), raw)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
    ],
)
def test_pages_of_other_sites_get_nothing_of_the_admin(
    emulator: RunningEmulator, headers: dict[str, str]
) -> None:
    for method, what in (("POST", "settings"), ("GET", "messages"), ("GET", "settings")):
        url = f"{emulator.admin_url}/_admin/{what}"
        answer = urllib3.request(method, url, body=b'{"tag_limit": 10}', headers=headers)
        assert answer.status == 403
    assert emulator.change_settings()["tag_limit"] == 50


@pytest.mark.parametrize("host", ["localhost:1", "emulator:8080", "[::1]:8080", "10.1.2.3", "s3.localhost"])
def test_the_admin_answers_by_address_and_short_names(emulator: RunningEmulator, host: str) -> None:
    own = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
    answer = urllib3.request("GET", f"{emulator.admin_url}/_admin/settings", headers=own)
    assert answer.status == 200


def test_the_admin_lets_no_webhook_elsewhere(emulator: RunningEmulator) -> None:
    elsewhere = {"webhook": "http://192.0.2.1/", "webhook_elsewhere": True}
    answer = urllib3.request("POST", f"{emulator.admin_url}/_admin/settings", json=elsewhere)
    assert (answer.status, emulator.change_settings()["webhook"]) == (400, "")


def test_over_the_admin(emulator: RunningEmulator) -> None:
    assert emulator.change_settings(tag_limit=10)["tag_limit"] == 10
    assert emulator.change_settings(tag_limit=50)["tag_limit"] == 50
    answer = urllib3.request("POST", f"{emulator.admin_url}/_admin/settings", json={"no": 1})
    assert (answer.status, answer.json()) == (400, {"message": "There is no setting 'no'."})


def test_accounts_that_may_not_use_vaults_any_more(emulator: RunningEmulator, talker: Talker) -> None:
    emulator.change_settings(no_longer_supported=True)
    try:
        for method, path in (
            ("GET", "/-/vaults"),
            ("PUT", "/-/vaults/v"),
            ("GET", "/-/provisioned-capacity"),
        ):
            assert talker.ask(method, path).error[:2] == (400, "NoLongerSupportedException")
    finally:
        emulator.change_settings(no_longer_supported=False)
