"""The terms of vaults: classes, prices, parts."""

from __future__ import annotations

from pathlib import Path

import msgspec

from backup.app.prices import price_table
from backup.app.stats import terms_of
from backup.config import Config, VaultSettings
from backup.model import MIB, PackKind, VaultName

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
    small = msgspec.structs.replace(config, limits=msgspec.structs.replace(config.limits, memory=160 * MIB))
    assert terms_of(small, table, vault).part_size < 64 * MIB
