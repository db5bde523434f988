"""S3 clients of the emulator that all tests of its folder share."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.emulated import RunningEmulator
from tests.support.s3_clients import S3Talker, client, new_bucket


@pytest.fixture(scope="session")
def s3(emulator: RunningEmulator) -> Any:
    """boto3."""
    return client(emulator.s3_url)


@pytest.fixture(scope="session")
def raw(emulator: RunningEmulator) -> S3Talker:
    """A raw client."""
    return S3Talker(emulator.s3_url)


@pytest.fixture
def bucket(s3: Any) -> str:
    """A bucket of the test's own."""
    return new_bucket(s3)
