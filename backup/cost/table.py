"""Tables of prices: rows of figures from a TOML file, combined for a region and a kind.

A row has the figures that are known of its region and kind. Missing figures are taken, in this order, from
rows of all regions (`*`), for a vault from S3's class of the same region, from the region that `nearest`
names, and from us-east-1; all but the first are marked. docs/prices.md describes the file.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from backup.cost.prices import Figure, Price, TierPrice
from backup.errors import ConfigError
from backup.model import Tier

ANYWHERE = "*"
LAST_RESORT = "us-east-1"
PLAIN = ("storage", "overhead", "minimum_days", "upload", "download", "egress", "copy")
OPTIONAL = ("complete", "index", "minimum_size")
OF_A_TIER = ("gb", "requests", "hours")
MOST: Final = 1_000_000
"""No figure is larger: an amount of money must be one that can be counted with."""
_WHOLE = ("overhead", "minimum_days", "index")
_OF_THE_REGION = "egress"  # from a row of any kind
_LIKE_S3 = {"glacier": ("s3:GLACIER", ("storage", "standard.gb"))}
"""Kinds whose price may be taken from an S3 class of the region: equal wherever both are known."""

_Money = Annotated[Decimal, Meta(description="must be a number of dollars, 0 or more")]


class _Tier(Struct, forbid_unknown_fields=True):
    gb: _Money | None = None
    requests: _Money | None = None
    hours: tuple[float, float] | None = None


class _PriceRow(Struct, forbid_unknown_fields=True):
    region: str
    kind: str
    storage: _Money | None = None
    overhead: Annotated[int, Meta(ge=0)] | None = None
    minimum_days: Annotated[int, Meta(ge=0)] | None = None
    upload: _Money | None = None
    download: _Money | None = None
    egress: _Money | None = None
    copy: _Money | None = None
    complete: _Money | None = None
    index: Annotated[int, Meta(ge=0)] | None = None
    minimum_size: Literal[0, 131072] | None = None
    retrieval: Mapping[Tier, _Tier] = {}
    source: str | None = None

    def values(self) -> Iterator[tuple[str, object]]:
        """Each figure that the row has, by its name."""
        for name in (*PLAIN, *OPTIONAL):
            yield name, getattr(self, name)
        for tier, price in self.retrieval.items():
            for name in OF_A_TIER:
                yield f"{tier}.{name}", getattr(price, name)


class _Set(Struct, forbid_unknown_fields=True):
    key: str
    value: _Money
    date: date


class _Source(Struct, forbid_unknown_fields=True):
    id: str
    date: date
    text: str


class _PriceFile(Struct, forbid_unknown_fields=True):
    date: date
    currency: str
    sources: tuple[str, ...] = ()
    source: tuple[_Source, ...] = ()
    nearest: Mapping[str, str] = {}
    price: tuple[_PriceRow, ...] = ()
    set: tuple[_Set, ...] = ()


class _Own(Struct, forbid_unknown_fields=True):
    extends: bool
    price: tuple[_PriceRow, ...] = ()
    source: tuple[_Source, ...] = ()
    set: tuple[_Set, ...] = ()


_Rows = Mapping[tuple[str, str], Mapping[str, Figure]]


class PriceTable(Struct, frozen=True):
    """All known prices; `origin` is the name of their file."""

    origin: str
    date: date
    currency: str
    sources: tuple[str, ...]
    rows: _Rows
    nearest: Mapping[str, str]

    @property
    def kinds(self) -> tuple[str, ...]:
        """Every kind of vault that has a price somewhere."""
        return tuple(dict.fromkeys(kind for _region, kind in self.rows))

    @property
    def regions(self) -> tuple[str, ...]:
        """Every region with known figures."""
        return tuple(dict.fromkeys(region for region, _kind in self.rows if region != ANYWHERE))

    @property
    def prices(self) -> tuple[Price, ...]:
        """Every complete price of a known region."""
        found = (self.find(region, kind) for region in self.regions for kind in self.kinds)
        return tuple(price for price in found if price is not None)

    def find(self, region: str | None, kind: str) -> Price | None:
        """The price of that kind of vault in a region; None if the rows do not give all figures."""
        if region is None:
            return None
        return _price(region, kind, self.known(region, kind))

    def known(self, region: str, kind: str) -> dict[str, Figure]:
        """Every figure of that kind in a region, its own or another's."""
        figures: dict[str, Figure] = {}
        for row in self._candidates(region, kind):
            figures = {**row, **figures}
        return figures

    def hours(self, kind: str) -> dict[Tier, tuple[float, float]]:
        """The hours that each tier of a kind takes; they are the same in all regions."""
        figures = self.known(LAST_RESORT, kind)
        named = {tier: figures.get(f"{tier}.hours") for tier in Tier}
        return {tier: figure.value for tier, figure in named.items() if figure}  # type: ignore[misc]

    def _candidates(self, region: str, kind: str) -> Iterator[Mapping[str, Figure]]:
        yield self.rows.get((region, kind), {})
        yield self.rows.get((ANYWHERE, kind), {})
        kinds = (self.rows.get((region, known_kind), {}) for known_kind in self.kinds)
        yield next(({_OF_THE_REGION: row[_OF_THE_REGION]} for row in kinds if _OF_THE_REGION in row), {})
        like, names = _LIKE_S3.get(kind, ("", ()))
        same = self.rows.get((region, like), {})
        yield _marked({name: same[name] for name in names if name in same}, f"{region} {like}")
        near = self.nearest.get(region.partition("-")[0], LAST_RESORT)
        for other in dict.fromkeys((near, LAST_RESORT)):
            if other != region:
                yield _marked(self.rows.get((other, kind), {}), other)


def _marked(row: Mapping[str, Figure], as_in: str) -> dict[str, Figure]:
    return {
        name: Figure(figure.name, figure.value, figure.source, figure.date, as_in)
        for name, figure in row.items()
    }


def _price(region: str, kind: str, figures: Mapping[str, Figure]) -> Price | None:
    """All figures as one price; None if one is missing. A tier exists if it has all of its figures."""
    if any(name not in figures for name in PLAIN):
        return None
    tiers = [tier for tier in Tier if all(f"{tier}.{name}" in figures for name in OF_A_TIER)]
    retrieval = {tier: TierPrice(*(figures[f"{tier}.{name}"].value for name in OF_A_TIER)) for tier in tiers}  # type: ignore[arg-type]
    own = [*PLAIN, *(name for name in OPTIONAL if name in figures)]
    names = [*own, *(f"{tier}.{name}" for tier in tiers for name in OF_A_TIER)]
    plain = {name: figures[name].value for name in own}
    return Price(region, kind, **plain, retrieval=retrieval, figures=tuple(figures[n] for n in names))  # type: ignore[arg-type]


def parse_prices(text: str, origin: str, base: PriceTable | None = None) -> PriceTable:
    """The table in a TOML file. `ConfigError` says what is wrong with it.

    A file with `extends = true` has some figures of its own, which go before those of `base`; its currency is
    that of `base`.
    """
    try:
        document = tomllib.loads(text, parse_float=Decimal)
        if document.get("extends") is True and base is not None:
            own = msgspec.convert(document, _Own, strict=False)
            return _extended(base, own, origin)
        read = msgspec.convert(document, _PriceFile, strict=False)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise ConfigError(
            f"{origin} is no table of prices: {error}",
            advice="`nightvault prices --toml` prints one that is; docs/prices.md describes it",
        ) from error
    default = _Source("", read.date, "; ".join(read.sources) or f"the table {origin}")
    rows = _rows(read.price, read.source, read.set, default, origin)
    sources = (*read.sources, *(f"{source.text} ({source.date})" for source in read.source))
    table = PriceTable(origin, read.date, read.currency, sources, rows, read.nearest)
    _must_be_whole(table)
    return table


def _extended(base: PriceTable, own: _Own, origin: str) -> PriceTable:
    default = _Source("", base.date, f"a row of {origin}")
    rows = {key: dict(row) for key, row in base.rows.items()}
    for key, row in _rows(own.price, own.source, own.set, default, origin).items():
        rows[key] = {**rows.get(key, {}), **row}
    days = [base.date, *(entry.date for entry in own.set), *(source.date for source in own.source)]
    sources = (*base.sources, origin)
    table = PriceTable(f"{base.origin} and {origin}", max(days), base.currency, sources, rows, base.nearest)
    _must_be_whole(table)
    return table


def _rows(
    rows: tuple[_PriceRow, ...],
    sources: tuple[_Source, ...],
    sets: tuple[_Set, ...],
    default: _Source,
    origin: str,
) -> dict[tuple[str, str], dict[str, Figure]]:
    """The figures of each region and kind; later rows win over earlier ones."""
    known = {known_source.id: known_source for known_source in sources}
    found: dict[tuple[str, str], dict[str, Figure]] = {}
    for row in rows:
        if row.source is not None and row.source not in known:
            raise ConfigError(
                f"{origin}: {row.kind} in {row.region} names a source {row.source!r} that is not there"
            )
        source = known[row.source] if row.source else default
        place = found.setdefault((row.region, row.kind), {})
        for name, value in row.values():
            if value is not None:
                _require_figure(value, row.kind, row.region, origin)
                place[name] = Figure(name, value, source.text, source.date)
    for entry in sets:
        region, kind, name = split_key(entry.key)
        _require_figure(entry.value, kind, region, origin)
        amount = int(entry.value) if name in _WHOLE else entry.value
        text = f"set by hand in {origin}"
        found.setdefault((region, kind), {})[name] = Figure(name, amount, text, entry.date)
    return found


def split_key(key: str) -> tuple[str, str, str]:
    """Region, kind and figure of a key such as `eu-central-1/s3:GLACIER/standard.gb`. `ConfigError`."""
    parts = key.split("/")
    names = figure_names()
    if len(parts) != 3 or parts[2] not in names:
        raise ConfigError(
            f"{key!r} names no figure of a price",
            advice="write REGION/KIND/FIGURE, as in eu-central-1/s3:GLACIER/standard.gb; figures: "
            + ", ".join(names),
        )
    return parts[0], parts[1], parts[2]


def figure_names() -> list[str]:
    """Every figure that can be set."""
    return [*PLAIN, *OPTIONAL, *(f"{tier}.{name}" for tier in Tier for name in ("gb", "requests"))]


def _require_figure(value: object, kind: str, region: str, origin: str) -> None:
    """Refuse figures that are no amount: NaN, infinity, below 0, or impossibly large. `ConfigError`."""
    for figure in value if isinstance(value, tuple) else (value,):
        amount = Decimal(figure)
        if amount.is_finite() and amount < 0:
            raise ConfigError(f"{origin}: {kind} in {region} has a price below 0")
        if not (amount.is_finite() and amount <= MOST):
            raise ConfigError(f"{origin}: {kind} in {region} has a figure that is no number up to {MOST:,}")


def _must_be_whole(table: PriceTable) -> None:
    """Raise unless every kind in every region is a complete price, with what it takes from others."""
    for region, kind in table.rows:
        if region != ANYWHERE and table.find(region, kind) is None:
            figures = table.known(region, kind)
            lacking = ", ".join(name for name in PLAIN if name not in figures)
            raise ConfigError(f"{table.origin} is no table of prices: {kind} in {region} lacks {lacking}")
