"""The terms of vaults: classes, prices, parts."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backup.app.money.prices import price_table
from backup.app.money.stats import terms_of
from backup.app.status import vaults as status_vaults
from backup.config import Config, VaultSettings
from backup.inventory.questions.stats import Stored
from backup.inventory.questions.status import HeldArchives
from backup.model import MIB, PackKind, VaultName
from backup.retention.stats import Rows, summed

DATA, CATALOG = PackKind.DATA, PackKind.CATALOG


def config_with(folder: Path, **settings: object) -> tuple[Config, VaultSettings]:
    vault = VaultSettings(name=VaultName("cold"), region="us-east-1", **settings)  # type: ignore[arg-type]
    url = f"sqlite:///{folder}/i.sqlite"
    return Config(path="c", state_dir=str(folder), inventory_url=url, vaults=(vault,)), vault


def test_a_bucket_keeps_catalogs_in_a_class_of_their_own(tmp_path: Path) -> None:
    config, vault = config_with(tmp_path, kind="s3", bucket="b", catalog_class="STANDARD_IA")
    table = price_table(config)
    found = terms_of(config, table, vault)
    assert found.classes == {DATA: "s3:DEEP_ARCHIVE", CATALOG: "s3:STANDARD_IA"}
    assert found.prices == {kind: table.find("us-east-1", name) for kind, name in found.classes.items()}
    assert [price and price.minimum_days for price in found.prices.values()] == [180, 30]


def test_a_glacier_vault_has_one_class_and_a_directory_no_price(tmp_path: Path) -> None:
    config, vault = config_with(tmp_path, kind="glacier", vault="v")
    found = terms_of(config, price_table(config), vault)
    assert found.classes == {DATA: "glacier", CATALOG: "glacier"}
    assert (found.is_free, found.endpoint) == (False, None)
    config, vault = config_with(tmp_path, kind="directory", path="/d")
    found = terms_of(config, price_table(config), vault)
    assert (found.is_free, set(found.prices.values())) == (True, {None})


def test_parts_are_those_that_uploads_are_cut_into(tmp_path: Path) -> None:
    """A limit of the rate makes parts smaller than the config says, and so does little memory."""
    config, vault = config_with(tmp_path, kind="glacier", vault="v", part_size=64 * MIB, parts_at_once=1)
    table = price_table(config)
    assert terms_of(config, table, vault).part_size == 64 * MIB
    small = msgspec.structs.replace(config, limits=msgspec.structs.replace(config.limits, memory=128 * MIB))
    assert terms_of(small, table, vault).part_size < 64 * MIB


@given(
    st.lists(st.tuples(st.sampled_from(PackKind), st.integers(1, 10**6), st.integers(1, 2**50)), max_size=4)
)
@pytest.mark.parametrize(
    "settings",
    [{"kind": "glacier", "vault": "v"}, {"kind": "s3", "bucket": "b"}, {"kind": "directory", "path": "/d"}],
)
def test_status_tells_the_same_cost_of_a_month(
    settings: dict[str, str], held: list[tuple[PackKind, int, int]]
) -> None:
    """`status` adds up by kind of archive, `stats` by day and job: both are the vault's bill."""
    config, vault = config_with(Path("/nowhere"), **settings)
    day = date(2026, 11, 1)
    rows = [Stored(vault.name, None, kind, day, False, count, size, 0, 0) for kind, count, size in held]
    expected = summed(Rows(stored=rows), terms_of(config, price_table(config), vault), day).month
    found = status_vaults.month_of(
        config, price_table(config), vault, [HeldArchives(vault.name, *share) for share in held]
    )
    assert found is not None
    assert expected is not None
    assert abs(found - expected) < Decimal("1e-9")
