"""The filters of a job, made from its settings; pattern files are read here, at each run."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from contextlib import suppress

from backup.config import Config, JobSettings, SourceSettings
from backup.source.filters import Filters, Tag
from backup.source.patterns import Pattern, read_patterns
from backup.source.roots import is_at_or_below, resolved


def own_places(config: Config, job: JobSettings) -> dict[str, str]:
    """Return nightvault's own paths, each with its name: the state directory, the job's directory vault."""
    vault = config.vault(job.vault)
    of_vault = {} if vault.path is None else {vault.path: f"vault {vault.name}"}
    return {config.state_dir: "the state directory"} | of_vault


def own_directories(
    config: Config, job: JobSettings, saved: Collection[str] = ()
) -> tuple[tuple[int, int], ...]:
    """Return device and inode of the directories that a job does not save.

    They are `own_places`, but for those that the job has `saved` so far, and always the spool and the
    directory of drills: a run would store what was just made.
    """
    from backup.app.base.state import State

    state = State(config.state_dir)
    places = (
        () if job.exclude_own is False else (path for path in own_places(config, job) if path not in saved)
    )
    own: list[tuple[int, int]] = []
    for path in (state.spool, state.drills, *places):
        with suppress(OSError):  # whoever needs it will say so
            found = os.stat(path)
            own.append((found.st_dev, found.st_ino))
    return tuple(own)


def own_patterns(config: Config, job: JobSettings) -> list[Pattern]:
    """Return patterns for nightvault's own paths, if the job has `exclude_own`.

    Files that they exclude do not count as lost. Files that they exclude do not count as lost.
    """
    if not job.exclude_own:
        return []
    sources = [resolved(os.fsencode(path)) for path in job.paths]
    places = [os.path.realpath(path) for path in own_places(config, job)]
    return [
        Pattern(re.sub(r"([^\w/.-])", r"\\\1", place) + "/", "exclude_own")
        for place in places
        if any(is_at_or_below(os.fsencode(place), source) for source in sources)
    ]


def filters_of(
    job: JobSettings, own: Collection[tuple[int, int]] = (), last: Sequence[Pattern] = ()
) -> Filters:
    """Return the filters for all sources of a job; `last` are patterns that take precedence over its own.

    `ConfigError` names a file or pattern that cannot be used.
    """
    return Filters(
        [*_patterns(job, ""), *last],
        exclude_caches=job.exclude_caches,
        one_file_system=job.one_file_system,
        tags=_tags(job, ""),
        larger_than=job.exclude_larger_than,
        own=own,
    )


def overrides_of(
    job: JobSettings, own: Collection[tuple[int, int]] = (), last: Sequence[Pattern] = ()
) -> dict[bytes, Filters]:
    """Return the filters of sources with settings of their own: lists add to the job's, values replace it."""
    found = {}
    for number, source in enumerate(job.source, 1):
        above = f"source[{number}]."
        caches, one_system = source.exclude_caches, source.one_file_system
        larger = source.exclude_larger_than
        found[os.fsencode(source.path)] = Filters(
            [*_patterns(job, ""), *_patterns(source, above), *last],
            exclude_caches=job.exclude_caches if caches is None else caches,
            one_file_system=job.one_file_system if one_system is None else one_system,
            tags=[*_tags(job, ""), *_tags(source, above)],
            larger_than=job.exclude_larger_than if larger is None else larger,
            own=own,
        )
    return found


def _patterns(settings: JobSettings | SourceSettings, above: str) -> list[Pattern]:
    """The patterns of files, then the config's own, which can take back in what a file leaves out."""
    files = [pattern for path in settings.exclude_file for pattern in read_patterns(path)]
    ifiles = [
        pattern for path in settings.iexclude_file for pattern in read_patterns(path, ignores_case=True)
    ]
    own = _numbered(settings.exclude, f"{above}exclude", ignores_case=False)
    return [*files, *own, *ifiles, *_numbered(settings.iexclude, f"{above}iexclude", ignores_case=True)]


def _numbered(texts: Sequence[str], key: str, *, ignores_case: bool) -> list[Pattern]:
    return [Pattern(text, f"{key}[{number}]", ignores_case) for number, text in enumerate(texts, 1)]


def _tags(settings: JobSettings | SourceSettings, above: str) -> list[Tag]:
    key = f"{above}exclude_if_present"
    return [Tag.parse(text, f"{key}[{n}]") for n, text in enumerate(settings.exclude_if_present, 1)]
