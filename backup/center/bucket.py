"""Reports that hosts put into a bucket: read in S3's order of time, each once, and bounded for each place.

A place is a prefix in which one host may put. Whose a report is, its signature says: it holds bucket, place
and name, so that a copy elsewhere is nobody's. S3's time counts for certificates and invitations, never the
host's. What was taken is noted with each object, so that a process that ends in between loses and doubles
none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from enum import Enum, auto
from itertools import islice

import msgspec
from msgspec import Struct
from sqlalchemy import Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert

from backup.center.database import seeing
from backup.center.identity import Trust
from backup.center.joining import join
from backup.center.receive import take_report
from backup.center.summary import stored_claims
from backup.center.tables import hosts, places
from backup.errors import NightvaultError, UnreachableError
from backup.format.host_report import (
    MOST_OBJECT,
    REPORTS,
    ListedReport,
    names_since,
    object_of,
    read_object,
)
from backup.wording import escape

MOST_LISTED = 10_000
"""So many names of a place are looked at; a chain of 24 reports a day makes 960 within what is listed."""
MOST_CATALOGS = 100_000
"""So many catalogs of a place are looked at; one with more is not compared."""
MOST_TAKEN = 500
"""So many objects of a place are read at a time; the next ones with the next time."""
MOST_CHAINS = 100
"""So many chains of a host may be taken in a day: after a pause of the center all at once."""
_KEPT = timedelta(days=40)
_NEVER = datetime(1970, 1, 2, tzinfo=UTC)
_LATE = timedelta(minutes=10)  # so much later than by its time an object may come to be listed
_LONGEST_WHY = 300
COMPARED_EACH = timedelta(hours=6)
"""So often what a place holds is compared with what its host says."""
_SLACK = timedelta(days=1)  # a host's clock may be wrong, and its report is older than the list


class Refused(Struct, frozen=True):
    """An object that was not taken, of whom it is if its signature said so, and why."""

    name: str
    host: str
    why: str


class PlaceRead(Struct, frozen=True):
    """The numbers of what was taken in a place, and what was refused; `has_more`: there is more to take."""

    place: str
    taken: int
    joined: int
    refused: Sequence[Refused]
    has_more: bool


class _Became(Enum):
    """The outcome of taking an object; one that is unreadable now is read another time."""

    TAKEN = auto()
    JOINED = auto()
    REFUSED = auto()
    UNREADABLE = auto()


class _Progress(Struct, frozen=True):
    """S3's time up to which a place was read, and names with their times that are not much older."""

    read_to: datetime
    names: dict[str, str]

    def is_new(self, line: ListedReport) -> bool:
        """Whether an object was not read yet."""
        return line.at > self.read_to - _LATE and line.name not in self.names

    def with_lines(self, lines: Sequence[ListedReport]) -> _Progress:
        """The progress when these are read, too; names that are too old to come again go."""
        to = max([self.read_to, *(line.at for line in lines)])
        names = self.names | {line.name: line.at.isoformat() for line in lines}
        kept = {name: at for name, at in names.items() if datetime.fromisoformat(at) > to - _LATE}
        return _Progress(to, kept)


def first_name(now: datetime) -> str:
    """The name behind which a place is listed."""
    return names_since((now - _KEPT).timestamp())


class PlaceReader(Struct, frozen=True):
    """Reads places of the bucket `address` (`s3://NAME`); `read` returns an object by its whole key."""

    engine: Engine
    trust: Trust
    address: str
    read: Callable[[str], bytes]
    now: datetime
    uninvited: bool = False

    def read_place(self, place: str, listed: Iterable[ListedReport]) -> PlaceRead:
        """Take what is new in a place. `UnreachableError`: what was taken until then counts."""
        lines = list(islice(listed, MOST_LISTED + 1))
        where = f"{self.address}/{place}"
        progress = _progress(self.engine, where)
        new = sorted(filter(progress.is_new, lines[:MOST_LISTED]), key=_in_order)
        done, refused, counts = list[ListedReport](), list[Refused](), Counter[_Became]()
        for line in new[:MOST_TAKEN]:
            became, why = self._take(where, place, line)
            counts[became] += 1
            refused += [Refused(escape(line.name), escape(why[0]), escape(why[1]))] if why else []
            if became is not _Became.UNREADABLE:
                done.append(line)
            if became in {_Became.TAKEN, _Became.JOINED}:
                progress, done = _noted(self.engine, where, progress.with_lines(done)), []
        if done:
            _noted(self.engine, where, progress.with_lines(done))
        if len(lines) > MOST_LISTED:
            told = f"more than {MOST_LISTED} objects: those behind them are not looked at"
            refused.append(Refused(REPORTS, "", told))
        return PlaceRead(
            escape(where), counts[_Became.TAKEN], counts[_Became.JOINED], refused, len(new) > MOST_TAKEN
        )

    def compare(self, place: str, catalogs: Callable[[], Iterable[ListedReport]]) -> bool | None:
        """Whether what the host of a place says was stored lies there, by the newest of its catalogs.

        None where nothing is to be compared: nobody tells there, it says nothing of it, or it was compared
        within hours. Of several S3 vaults any may be in this bucket: the one with the oldest claim counts.
        """
        where = f"{self.address}/{place}"
        with seeing(self.engine, None) as connection:
            known = select(places.c.compared_at, hosts.c.host_id, hosts.c.document)
            known = known.select_from(places.join(hosts, places.c.host_id == hosts.c.host_id))
            found = connection.execute(known.where(places.c.place == where)).one_or_none()
        if found is None or (found[0] is not None and self.now - found[0] < COMPARED_EACH):
            return None
        claims = stored_claims(msgspec.json.decode(found[2]))
        lines = list(islice(catalogs(), MOST_CATALOGS + 1)) if claims else []
        if not claims or len(lines) > MOST_CATALOGS:
            return None
        newest, (claim, job) = max((line.at for line in lines), default=None), min(claims)
        has = "nothing" if newest is None else f"nothing newer than {newest:%Y-%m-%d %H:%M} UTC"
        why = f"it says that job {job} was stored at {claim:%Y-%m-%d %H:%M} UTC, but its vault has {has}"
        is_there = newest is not None and claim <= newest + _SLACK
        values = {
            "contradicted_at": func.coalesce(hosts.c.contradicted_at, self.now),
            "contradicted_why": why,
        }
        none = {"contradicted_at": None, "contradicted_why": None}
        changed = update(hosts).where(hosts.c.host_id == found[1]).values(none if is_there else values)
        with seeing(self.engine, None) as connection:
            connection.execute(changed)
            noted = update(places).where(places.c.place == where).values(compared_at=self.now)
            connection.execute(noted)
        return is_there

    def _take(self, where: str, place: str, line: ListedReport) -> tuple[_Became, tuple[str, str] | None]:
        """Take one object in: what became of it, and if it is refused of whom it is, and why."""
        what = object_of(line.name)
        if what is None:
            return _Became.REFUSED, ("", "its name is none of a report")
        if line.size > MOST_OBJECT:
            return _Became.REFUSED, ("", f"{line.size} bytes, more than {MOST_OBJECT}")
        try:
            data = self.read(place + line.name)
        except UnreachableError:
            raise
        except NightvaultError as error:
            return _Became.UNREADABLE, ("", str(error)[:_LONGEST_WHY])
        host = ""
        try:
            headers, body = read_object(data)
            path = f"/{place}{line.name}"
            identity = self.trust.identity_of({**headers, "host": self.address}, body, line.at, path)
            host = identity.name
            if what.chain is None:
                join(self.engine, identity, body, line.at)
                return _Became.JOINED, None
            take_report(
                *(self.engine, identity, body, self.now), uninvited=self.uninvited, most_chains=MOST_CHAINS
            )
            self._note_host(where, identity.host_id)
        except UnreachableError:
            raise
        except NightvaultError as error:
            return _Became.REFUSED, (host, str(error)[:_LONGEST_WHY])
        return _Became.TAKEN, None

    def _note_host(self, where: str, host_id: str) -> None:
        """Note whose place it is."""
        row = insert(places).values(place=where, host_id=host_id, read_to=_NEVER, names="{}")
        with seeing(self.engine, None) as connection:
            connection.execute(
                row.on_conflict_do_update(index_elements=[places.c.place], set_={"host_id": host_id})
            )


def _in_order(line: ListedReport) -> tuple[datetime, bool, str]:
    """S3's time, which has seconds: who joins comes first then, and numbers of a chain in their order."""
    return line.at, "-join/" not in line.name, line.name


def _progress(engine: Engine, place: str) -> _Progress:
    with seeing(engine, None) as connection:
        found = connection.execute(select(places).where(places.c.place == place)).mappings().one_or_none()
    if found is None:
        return _Progress(_NEVER, {})
    return _Progress(found["read_to"], msgspec.json.decode(found["names"]))


def _noted(engine: Engine, place: str, progress: _Progress) -> _Progress:
    """Note what was read."""
    values = {"read_to": progress.read_to, "names": msgspec.json.encode(progress.names).decode()}
    row = insert(places).values(place=place, **values)
    with seeing(engine, None) as connection:
        connection.execute(row.on_conflict_do_update(index_elements=[places.c.place], set_=values))
    return progress
