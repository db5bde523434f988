"""The one chooser of vaults: by name, or the only one."""

from __future__ import annotations

import pytest

from backup.cli.support.choosing_vault import choose_vault
from backup.config import Config, VaultSettings
from backup.errors import UsageError
from backup.model import VaultName


def config_of(*names: str) -> Config:
    vaults = tuple(VaultSettings(name=VaultName(name), kind="directory", path="/disk") for name in names)
    return Config(path="/etc/config.toml", state_dir="/state", inventory_url="sqlite:////i", vaults=vaults)


def test_a_name_goes_before_everything() -> None:
    assert choose_vault(config_of("one", "two"), "two").name == "two"
    assert choose_vault(config_of("one", "two"), "two", among=["one"]).name == "two"


def test_the_only_vault_needs_no_name() -> None:
    assert choose_vault(config_of("one"), None).name == "one"
    assert choose_vault(config_of("one", "two"), None, among=["two"]).name == "two"


def test_several_vaults_are_listed() -> None:
    with pytest.raises(UsageError, match=r"which vault\? one, two") as caught:
        choose_vault(config_of("one", "two"), None)
    assert caught.value.advice == "say --vault NAME"


def test_an_unknown_vault_is_refused() -> None:
    with pytest.raises(UsageError, match="no vault named three"):
        choose_vault(config_of("one", "two"), "three")


def test_a_config_without_vaults_is_told() -> None:
    with pytest.raises(UsageError, match="has no vault"):
        choose_vault(config_of(), None)
