"""Questions about the sources and the vault."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable

from msgspec.structs import replace

from backup.app.backups.source_warnings import nested_places, own_as_sources
from backup.app.base.silent_mounts import look_at
from backup.app.beginning.answers import Answers, Where
from backup.app.beginning.measure import DATABASES, Measured, can_be_made, is_below
from backup.cli.begin.question import Facts, Question, config_from, one_of, yes_or_no
from backup.cli.render.render import size
from backup.errors import NightvaultError, UsageError

_PLACES = {
    Where.DISK: "a directory: another disk, a file server that is mounted",
    Where.AWS: "an S3 bucket in AWS, by certificate; made by `setup aws`",
    Where.GLACIER: "a Glacier vault; closed to new customers since 15 December 2025",
    Where.S3: "a bucket of another S3 service, by a key in the environment",
}


def sized(measured: Measured) -> str:
    """Return a measured size as text; "over …" if not everything was counted."""
    return size(measured.bytes) if measured.is_whole else f"over {size(measured.bytes)}"


def _found(_answers: Answers, facts: Facts) -> str:
    lines = ["This machine has, about:"]
    lines += [f"  {sized(measured):>15}  {measured.path}" for measured in facts.measured(facts.folders)]
    for measured in facts.measured(facts.databases):
        name, tool = DATABASES[measured.path]
        lines.append(f"  {sized(measured):>15}  {measured.path}: {name}, whose files change")
        lines.append(f"{'':>17}  while they are read: save a dump by {tool}, see ?")
    return "\n".join(lines)


def _sources(answers: Answers, text: str, facts: Facts) -> Answers:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"a quote is not closed: {text}") from error
    chosen = list(facts.folders) if any(word[:1] in "+-" for word in words) else []
    for word in words:
        path = os.path.expanduser(word[1:] if word[:1] in "+-" else word)
        if not os.path.isabs(path):
            raise UsageError(f"{word!r} must be an absolute path")
        path = os.path.normpath(path)
        if word.startswith("-"):
            if path not in chosen:
                raise UsageError(f"{path} is not among {shlex.join(chosen)}")
            chosen.remove(path)
        elif not os.path.lexists(answering(path)):
            hint = "; write a blank between two, no comma" if re.search(r"[,;]", path) else ""
            raise UsageError(f"{path} is not there{hint}")
        elif path not in chosen:
            chosen.append(path)
    if not chosen:
        raise UsageError("name at least one directory or file")
    return replace(answers, sources=tuple(chosen))


def _where(answers: Answers, text: str, _facts: Facts) -> Answers:
    return replace(answers, where=Where(one_of(text, list(Where))))


def _kinds(_answers: Answers, _facts: Facts) -> str:
    return "\n".join(f"  {n} {kind:<8} {words}" for n, (kind, words) in enumerate(_PLACES.items(), 1))


def _likely(_answers: Answers, facts: Facts) -> str:
    return Where.AWS if has_aws_keys(facts) else Where.DISK


def has_aws_keys(facts: Facts) -> bool:
    """Whether boto3 would find AWS credentials on this machine, as far as can be told without asking AWS."""
    named = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE")
    files = (
        facts.environ.get("AWS_SHARED_CREDENTIALS_FILE") or os.path.join(facts.home, ".aws", "credentials"),
    )
    return any(map(facts.environ.get, named)) or any(map(os.path.exists, files))


def is_where(*kinds: Where) -> Callable[[Answers, Facts], bool]:
    """Return a function that tests whether the vault is of one of these kinds."""
    return lambda answers, _facts: answers.where in kinds


def _path(answers: Answers, text: str, facts: Facts) -> Answers:
    made = replace(answers, path=absolute(text))
    can_be_made(made.path)
    if is_below(facts.place.config, made.path) or is_below(made.path, facts.place.config):
        raise UsageError(f"the config is to be {facts.place.config}: name another directory")
    try:
        config = config_from(made, facts.place)
    except NightvaultError:  # its mistakes are told by their keys
        return made
    for sentence in (*nested_places(config), *own_as_sources(config, config.jobs[0])):
        raise UsageError(sentence)
    return made


def absolute(text: str) -> str:
    """Return a typed path with `~` expanded. `UsageError` if it is not absolute."""
    words = text.strip()
    path = os.path.expanduser(words)
    if not words or "\0" in words:
        raise UsageError("name a path")
    if not os.path.isabs(path):
        raise UsageError(f"{words!r} must be an absolute path")
    return answering(os.path.normpath(path))


def answering(path: str) -> str:
    """Return the path unchanged. `UsageError` if a mount on the way to it does not answer."""
    if look_at(path).is_silent:
        raise UsageError(f"{path} does not answer: its mount may be dead; mount it again, or name another")
    return path


def _beside(answers: Answers, _facts: Facts) -> str:
    above = answers.path
    while not os.path.isdir(above):
        above = os.path.dirname(above)
    try:
        device = os.stat(above).st_dev
        same = [path for path in answers.sources if os.stat(path).st_dev == device]
    except OSError:
        return ""
    if not same:
        return ""
    return (
        f"note: {answers.path} is on one file system with {same[0]}: a disk that fails takes both. `doctor` "
        "will say so, too"
    )


def _free(_answers: Answers, facts: Facts) -> str:
    """A mounted disk, if there is one."""
    for above in ("/mnt", "/media"):
        for path in facts.places.mounted_in(above):
            if not facts.places.is_silent(path):
                return os.path.join(path, "nightvault")
    return "/srv/nightvault" if facts.is_root else os.path.join(facts.home, "nightvault-vault")


def _text(name: str) -> Callable[[Answers, str, Facts], Answers]:
    """A reader of a plain text, whose shape the config checks."""
    return lambda answers, text, _facts: replace(answers, **{name: text.strip()})


def _flag(name: str) -> Callable[[Answers, str, Facts], Answers]:
    return lambda answers, text, _facts: replace(answers, **{name: yes_or_no(text)})


def constant(text: str) -> Callable[[Answers, Facts], str]:
    """Return a function that gives the same default for all answers; "" is no default."""
    return lambda _answers, _facts: text


WHAT_AND_WHERE = (
    Question(
        name="sources",
        title="What is to be backed up?",
        help=(
            "Directories and files, with blanks between them. +/data adds one to what is proposed, -/opt "
            "takes one away. A database is saved best as a dump: once the config is there, add a "
            "[[job.command]] to it, as `nightvault config example` shows (pg_dumpall, mysqldump), and leave "
            "its directory out."
        ),
        lead=_found,
        default=lambda _answers, facts: shlex.join(facts.folders),
        read=_sources,
        keys=("job[1].sources",),
    ),
    Question(
        name="where",
        title="Where to?",
        help=(
            "A disk costs nothing and is read at once, but keep it elsewhere than the server. S3's class "
            "DEEP_ARCHIVE is the cheapest place there is, and a restore takes hours. Glacier's vaults work "
            "only in accounts that used them before. Give the number or the word."
        ),
        lead=_kinds,
        default=_likely,
        read=_where,
    ),
    Question(
        name="path",
        title="Which directory?",
        help="It is made if it is not there. Backups are sealed: whoever has the disk reads nothing of them.",
        applies=is_where(Where.DISK),
        default=_free,
        read=_path,
        note=_beside,
        keys=("vault[1].path",),
    ),
    Question(
        name="endpoint",
        title="The service's address?",
        help="As its documents give it: https://HOST, with a port if it has one of its own.",
        applies=is_where(Where.S3),
        default=constant(""),
        read=_text("endpoint"),
        keys=("vault[1].endpoint",),
    ),
    Question(
        name="bucket",
        title="The bucket's name?",
        help="It is made if it is not there and the key may do that.",
        applies=is_where(Where.S3),
        lead=lambda _answers, facts: (
            ""
            if has_aws_keys(facts)
            else "There is no key yet: put it into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or into "
            "~/.aws/credentials of the user who backs up. It is not asked for here."
        ),
        default=constant(""),
        read=_text("bucket"),
        keys=("vault[1].bucket",),
    ),
    Question(
        name="path_style",
        title="Is the bucket part of the path (HOST/BUCKET)?",
        help="no: the service has names like BUCKET.HOST. Most that are not Amazon's take yes.",
        applies=is_where(Where.S3),
        default=constant("yes"),
        read=_flag("path_style"),
    ),
    Question(
        name="crc64nvme",
        title="Does it know the checksum CRC64NVME?",
        help="no: parts are covered by the signature alone. docs/s3.md has a table of services.",
        applies=is_where(Where.S3),
        default=constant("yes"),
        read=_flag("crc"),
    ),
)
