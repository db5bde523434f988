"""Packs that are sealed once for all tests of the format."""

from __future__ import annotations

import pytest

from backup.format import pack
from tests.support.packs import CHUNKS, KEY, PACK_KEY, SIGNER, Sealed, catalog_fields, data_fields, make_pack


@pytest.fixture(scope="session")
def header() -> bytes:
    """The header of a data pack."""
    return pack.seal_header(data_fields(), pack_key=PACK_KEY, recipients=[KEY.recipient], signer=SIGNER)


@pytest.fixture(scope="session")
def catalog_header() -> bytes:
    """The header of a catalog."""
    return pack.seal_header(catalog_fields(), pack_key=PACK_KEY, recipients=[KEY.recipient], signer=SIGNER)


@pytest.fixture(scope="session")
def sealed(header: bytes) -> Sealed:
    """A data pack of two frames."""
    return make_pack(header, [CHUNKS[:3], CHUNKS[3:]])
