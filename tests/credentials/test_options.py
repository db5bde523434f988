"""Options: what follows from the trust anchor's ARN, and every mistake under its key."""

from __future__ import annotations

from typing import Any

import pytest

from backup.credentials.arns import default_endpoint, parse_arn
from backup.credentials.options import RolesAnywhereOptions, is_loopback
from backup.errors import ConfigError
from tests.support.identities import ANCHOR, PROFILE, ROLE

GOOD: dict[str, Any] = {"trust_anchor_arn": ANCHOR, "profile_arn": PROFILE, "role_arn": ROLE}


def test_region_and_endpoint_follow_from_the_trust_anchor() -> None:
    options = RolesAnywhereOptions(**GOOD)
    assert options.signing_region == "eu-central-1"
    assert options.base_url == "https://rolesanywhere.eu-central-1.amazonaws.com"
    assert options.host == "rolesanywhere.eu-central-1.amazonaws.com"


@pytest.mark.parametrize(
    ("endpoint", "base_url", "host"),
    [
        ("http://127.0.0.1:9911/", "http://127.0.0.1:9911", "127.0.0.1:9911"),
        ("http://[::1]:80", "http://[::1]:80", "[::1]"),
        ("http://localhost", "http://localhost", "localhost"),
        ("https://vpce-1.example.com:443", "https://vpce-1.example.com:443", "vpce-1.example.com"),
        ("https://vpce-1.example.com:8443", "https://vpce-1.example.com:8443", "vpce-1.example.com:8443"),
    ],
)
def test_the_host_that_is_contacted_is_signed(endpoint: str, base_url: str, host: str) -> None:
    options = RolesAnywhereOptions(**GOOD, endpoint=endpoint)
    assert (options.base_url, options.host) == (base_url, host)


@pytest.mark.parametrize(
    ("partition", "region", "url"),
    [
        ("aws", "us-east-1", "https://rolesanywhere.us-east-1.amazonaws.com"),
        ("aws-us-gov", "us-gov-west-1", "https://rolesanywhere.us-gov-west-1.amazonaws.com"),
        ("aws-cn", "cn-north-1", "https://rolesanywhere.cn-north-1.amazonaws.com.cn"),
        ("aws-eusc", "eusc-de-east-1", "https://rolesanywhere.eusc-de-east-1.amazonaws.eu"),
        ("aws-iso-e", "eu-isoe-west-1", "https://rolesanywhere.eu-isoe-west-1.cloud.adc-e.uk"),
    ],
)
def test_each_partition_has_its_suffix(partition: str, region: str, url: str) -> None:
    assert default_endpoint(partition, region) == url


def test_aliases_are_as_good_as_arns() -> None:
    start = "arn:aws:rolesanywhere:eu-central-1:111122223333:alias"
    options = RolesAnywhereOptions(f"{start}/trust-anchor/main", f"{start}/profile/backup", ROLE)
    assert options.signing_region == "eu-central-1"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"trust_anchor_arn": "nonsense"}, "roles_anywhere.trust_anchor_arn: 'nonsense' is not an ARN"),
        ({"trust_anchor_arn": PROFILE}, "roles_anywhere.trust_anchor_arn: .* does not name a trust-anchor"),
        ({"trust_anchor_arn": ANCHOR.replace("eu-central-1", "")}, "does not name a trust-anchor"),
        ({"profile_arn": ANCHOR}, "roles_anywhere.profile_arn: .* does not name a profile"),
        (
            {"profile_arn": PROFILE.replace("central", "west")},
            "it is in eu-west-1, the trust anchor in eu-central-1",
        ),
        ({"role_arn": "arn:aws:iam::1:user/x"}, "role_arn: .* does not name a role"),
        ({"region": "us-east-1"}, "'us-east-1' is not the trust anchor's region eu-central-1"),
        ({"session_duration": 899}, "899 s is not between 900 and 43200 s"),
        ({"session_duration": 43201}, "43201 s is not between"),
        ({"endpoint": "http://192.0.2.1"}, "would send credentials over the network unencrypted"),
        ({"endpoint": "http://localhost.example.com"}, "unencrypted"),
        ({"endpoint": "ftp://127.0.0.1"}, "cannot be used"),
        ({"endpoint": "https://host/prefix"}, "cannot be used"),
        ({"endpoint": "https://user:word@host"}, "cannot be used"),
        ({"endpoint": "https://host:port"}, "is not a URL"),
        ({"endpoint": "https://ho\nst"}, "is not a URL"),
        ({"endpoint": "https://host:0"}, "is not a URL"),
        ({"endpoint": "https://ho%st"}, "cannot be used"),
        (
            {"trust_anchor_arn": ANCHOR.replace("arn:aws", "arn:aws-moon")},
            "partition 'aws-moon' is not known",
        ),
    ],
)
def test_mistakes_name_their_key(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        RolesAnywhereOptions(**{**GOOD, **change})


def test_an_unknown_partition_needs_an_endpoint() -> None:
    anchor = ANCHOR.replace("arn:aws", "arn:aws-moon")
    options = RolesAnywhereOptions(**{**GOOD, "trust_anchor_arn": anchor}, endpoint="https://ra.moon.example")
    assert options.host == "ra.moon.example"


def test_arns_keep_colons_in_their_resource() -> None:
    arn = parse_arn("arn:aws:x:r:a:type:id", "key")
    assert (arn.account, arn.resource) == ("a", "type:id")


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("[::1]", True),
        ("localhost", True),
        ("10.0.0.1", False),
        ("x", False),
    ],
)
def test_loopback(host: str, here: bool) -> None:
    assert is_loopback(host) is here
