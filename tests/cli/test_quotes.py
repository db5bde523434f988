"""Quotes: what a dry run says of money, and limits that refuse before anything is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backup.app.money.prices import price_of
from backup.config import load_config
from backup.operations.prune import catalog_price
from tests.support.servers import PRICES, Cloud, Server, directory_server, replace, running_cloud


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with running_cloud(tmp_path_factory.mktemp("cloud")) as running:
        yield running


@pytest.fixture(scope="module")
def server(cloud: Cloud, tmp_path_factory: pytest.TempPathFactory) -> Server:
    folder = tmp_path_factory.mktemp("server")
    made = cloud.server(folder, vault="quotes")
    made.init()
    made.backup()
    return made


@pytest.fixture
def priced(server: Server, tmp_path: Path) -> Iterator[Server]:
    table = tmp_path / "mine.toml"
    table.write_text(PRICES)
    before = server.config.read_text()
    server.config.write_text(before + f'\n[prices]\nfile = "{table}"\n')
    yield server
    server.config.write_text(before)


def plan(server: Server, tmp_path: Path) -> Any:
    return server.json("restore", "latest", "--target", tmp_path / "out", "--dry-run")


def test_a_region_without_prices_is_told_and_a_limit_refuses(priced: Server, tmp_path: Path) -> None:
    """A table of the user's own may lack a region; hours are told all the same."""
    (tmp_path / "mine.toml").write_text(PRICES.replace("eu-central-1", "eu-west-1"))
    told = plan(priced, tmp_path)
    assert [quote["cost"] for quote in told["quotes"]] == [None] * 3
    assert [quote["hours"] for quote in told["quotes"]] == [[0.02, 0.09], [3, 5], [5, 12]]
    words = ("restore", "latest", "--target", tmp_path / "out")
    text = priced.done(*words, "--dry-run").stdout
    assert "has no prices for eu-central-1, kind glacier" in text
    assert "3 to 5" in text
    assert "it is unknown whether" in priced.fails(16, *words, "--max-cost", "100", "--key", priced.key_file)
    assert priced.json("restores", "--all") == []


def test_figures_are_set_shown_and_verified(server: Server, tmp_path: Path) -> None:
    """`prices --set` is kept in the user's own file; `prices verify` names source and age."""
    own = server.state / "prices.toml"
    assert not own.exists()
    words = ("eu-central-1/glacier/standard.requests=0.055", "eu-central-1/glacier/storage = 0.0042")
    said = server.done("prices", "--set", words[0], "--set", words[1]).stdout
    assert f"2 set in {own}" in said
    server.done("prices", "--set", "eu-central-1/glacier/storage=0.0043")
    (price,) = (price for price in server.json("prices")["prices"] if price["kind"] == "glacier")
    assert (price["storage"], price["retrieval"]["standard"]["requests"]) == ("0.0043", "0.055")
    figures = {
        figure["figure"]: figure
        for figure in server.json("prices", "verify")["figures"]
        if figure["kind"] == "glacier"
    }
    assert figures["storage"]["age_days"] == 0
    assert (figures["storage"]["as_in"], figures["storage"]["source"]) == (None, f"set by hand in {own}")
    assert figures["upload"]["as_in"] == "us-east-1"
    assert figures["upload"]["age_days"] > 300
    assert "infracost" in figures["upload"]["source"].lower()
    assert "not verified" in server.done("prices").stderr
    before = own.read_text()
    for wrong in ("eu-central-1/glacier/storage", "a/b=1", "eu-central-1/glacier/storage=much", "x/y/z=1"):
        server.fails(2, "prices", "--set", wrong)
        server.fails(2, "prices", "--set", "eu-central-1/glacier/storage=1", "--set", wrong)
    server.fails(2, "prices", "--set", 'eu"central/glacier/storage=1')
    server.fails(2, "prices", "--set", "eu-central-1/nothing/storage=1")
    assert own.read_text() == before
    assert sorted(path.name for path in server.state.glob("prices*")) == ["prices.toml"]
    own.unlink()


def test_prices_are_set_before_there_is_a_state_directory(tmp_path: Path) -> None:
    server = directory_server(tmp_path)
    server.done("prices", "--set", "eu-central-1/glacier/storage=0.0042")
    assert server.state.stat().st_mode & 0o777 == 0o700
    assert "0.0042" in (server.state / "prices.toml").read_text()


def test_prices_of_other_regions_are_shown_when_asked_for(server: Server) -> None:
    told = server.json("prices", "--region", "sa-east-1")["prices"]
    assert {price["region"] for price in told} == {"sa-east-1"}
    assert len({price["region"] for price in server.json("prices", "--all")["prices"]}) == 36
    assert {
        figure["region"] for figure in server.json("prices", "verify", "--region", "eu-west-1")["figures"]
    } == {"eu-west-1"}


def test_each_tier_and_the_date_of_its_prices(priced: Server, tmp_path: Path) -> None:
    told = plan(priced, tmp_path)
    assert (told["prices"]["date"], told["currency"]) == ("2026-11-01", "EUR")
    standard, bulk = told["quotes"]
    assert (standard["tier"], standard["ranges"], standard["cost"]["total"]) == ("standard", 1, "0.11")
    assert (bulk["tier"], bulk["cost"]["total"], bulk["hours"]) == ("bulk", "0.01", [5.0, 12.0])
    assert standard["amplification"] >= 1
    text = priced.done("restore", "latest", "--target", tmp_path / "out", "--dry-run").stdout
    assert "2026-11-01" in text
    assert "EUR by the price table" in text
    assert "3 to 5" in text
    assert not (tmp_path / "out").exists()


def test_what_costs_more_is_refused_and_what_fits_is_told(priced: Server, tmp_path: Path) -> None:
    words = ("restore", "latest", "--target", tmp_path / "out", "--key", priced.key_file)
    said = priced.fails(16, *words, "--max-cost", "0.05")
    assert "would cost 0.11 EUR with standard, more than 0.05 (prices of 2026-11-01)" in said
    assert "--tier bulk (0.01)" in said
    priced.config.write_text(priced.config.read_text() + "[restore]\nmax_restore_cost = 0.001\n")
    assert "no tier fits" in priced.fails(16, *words)
    assert priced.json("restores", "--all") == []
    assert "must be an amount of money" in priced.fails(2, *words, "--max-cost", "much")
    begun = priced.json(*words, "--tier", "bulk", "--max-cost", "0.05", exit_code=17)
    assert begun["outcome"] == "running"
    (listed,) = priced.json("restores")
    assert (listed["stage"], listed["tier"], listed["waiting"]) == ("waiting", "bulk", 1)
    priced.done("restore", "cancel", listed["id"])


def test_prices_are_shown_with_their_file(priced: Server, tmp_path: Path) -> None:
    told = priced.json("prices")
    assert told["file"] == str(tmp_path / "mine.toml")
    assert told["prices"][0]["retrieval"]["bulk"]["gb"] == "0.001"
    assert "eu-central-1" in priced.done("prices").stdout
    copy = tmp_path / "mine.toml"
    copy.write_text(priced.done("prices", "--toml").stdout)
    assert priced.json("prices")["currency"] == "USD"
    copy.write_text("nonsense")
    assert "no table of prices" in priced.fails(2, "prices")


def test_what_is_not_verified_for_the_region_is_marked_and_counts(server: Server, tmp_path: Path) -> None:
    """A price of another region is used, never silently, and --max-cost works with it."""
    told = plan(server, tmp_path)
    standard = next(quote for quote in told["quotes"] if quote["tier"] == "standard")
    assert {"figure": "standard.requests", "as_in": "us-east-1"} in standard["unverified"]
    assert {"figure": "standard.gb", "as_in": "eu-central-1 s3:GLACIER"} in standard["unverified"]
    assert float(standard["cost"]["total"]) > 0
    words = ("restore", "latest", "--target", tmp_path / "out")
    text = " ".join(server.done(*words, "--dry-run").stdout.split())
    assert "taken from us-east-1, not verified for eu-central-1, kind glacier:" in text
    assert f"{standard['cost']['total']}*" in text
    assert "these are AWS's prices, and this vault is at http://127.0.0.1" in text
    said = server.fails(16, *words, "--max-cost", "0.001", "--key", server.key_file)
    assert "taken from us-east-1, not verified for eu-central-1, kind glacier: standard.requests" in said
    begun = server.run(*words, "--max-cost", "100", "--key", server.key_file)
    assert begun.exit_code == 17, begun.output
    assert (
        "within the limit of 100 by prices taken from us-east-1, not verified for eu-central-1"
        in begun.stderr
    )
    (listed,) = server.json("restores")
    server.done("restore", "cancel", listed["id"])


def test_a_table_with_a_mistake_takes_nothing_away(priced: Server, tmp_path: Path) -> None:
    """Prices are an ornament: what shows them says that they are not known, and why."""
    (tmp_path / "mine.toml").write_text("nonsense")
    reason = "money: not known, because "
    words = ("restore", "latest", "--target", tmp_path / "out")
    for shown in (
        ("stats",),
        ("stats", "--by", "job"),
        (*words, "--dry-run"),
        ("check", "--read-data", "100%", "--dry-run"),
    ):
        assert reason in " ".join(priced.done(*shown).stdout.split()), shown
    told = priced.json("stats")
    assert (told["prices"], told["currency"], told["vaults"][0]["month"]) == (None, None, None)
    assert told["vaults"][0]["archives"]
    told = plan(priced, tmp_path)
    assert (told["prices"], told["currency"]) == (None, None)
    assert [(quote["cost"], quote["hours"]) for quote in told["quotes"]] == [
        (None, [0.02, 0.09]),
        (None, [3, 5]),
        (None, [5, 12]),
    ]
    assert priced.run("prune", "--dry-run").exit_code in {0, 17}
    begun = priced.run(*words, "--key", priced.key_file)
    assert begun.exit_code == 17, begun.output
    assert reason in begun.stderr
    (listed,) = priced.json("restores")
    priced.done("restore", "cancel", listed["id"])


def test_a_limit_refuses_what_costs_while_the_table_has_a_mistake(priced: Server, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("nonsense")
    words = ("restore", "latest", "--target", tmp_path / "out", "--key", priced.key_file)
    what_to_do = "`nightvault prices` names the mistake: mend the table, or move it away"
    before = len(priced.json("restores", "--all"))
    for refused in ((*words, "--max-cost", "100"), ("check", "--read-data", "100%", "--max-cost", "100")):
        said = priced.fails(16, *refused)
        assert "stays below 100: money: not known, because " in said
        assert what_to_do in said
    priced.config.write_text(priced.config.read_text() + "[restore]\nmax_restore_cost = 50\n")
    assert "stays below 50" in priced.fails(16, *words)
    assert len(priced.json("restores", "--all")) == before
    for command in ("prune --max-fee 5", "compact"):
        said = priced.fails(2, *command.split())
        assert "money: not known, because " in said, command
        assert what_to_do in said
    assert "no table of prices" in priced.fails(2, "prices")


def test_a_catalog_is_billed_for_its_days_whatever_the_table_says(tmp_path: Path) -> None:
    """Else a prune would delete it too early, and pay for that, as nobody knew its class."""
    server = directory_server(tmp_path)
    bucket = 'kind = "s3"\nbucket = "nightvault-1"\nregion = "eu-central-1"\ncatalog_class = "STANDARD_IA"'
    replace(server, f'kind = "directory"\npath = "{tmp_path / "vault"}"', bucket)
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "prices.toml").write_text("nonsense")
    config = load_config(str(server.config))
    (settings,) = config.vaults
    found = catalog_price(config, settings)
    assert found is not None
    assert found.minimum_days == 30
    assert price_of(config, settings) is None
