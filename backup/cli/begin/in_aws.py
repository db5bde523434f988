"""Questions about AWS or another S3 service: region, storage class with price, certificate, set-up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal

from msgspec.structs import replace

from backup.app.aws_setup.ca_input import authorities_in
from backup.app.beginning.answers import Answers, Where
from backup.app.beginning.estimate import CLASSES, Estimate, Restore, estimate
from backup.app.beginning.measure import is_missing
from backup.app.money.prices import builtin_table
from backup.cli.begin.question import Facts, Question, one_of
from backup.cli.begin.what_and_where import absolute, constant, has_aws_keys, is_where
from backup.cli.render.render import size
from backup.cli.support.waiting import hours_text
from backup.config.shapes import suggestion
from backup.errors import UsageError
from backup.files import read_small

ELSEWHERE = "elsewhere"
_MOST_PEM = 1 << 20
_CENT = Decimal("0.01")
_TOKENS = ("pkcs11:", "handle:", "credential:")


def _region(answers: Answers, text: str, _facts: Facts) -> Answers:
    region, known = text.strip(), builtin_table().regions
    if answers.where.is_set_up and region not in known:
        raise UsageError(f"there is no region {region!r}{suggestion(region, known)}")
    return replace(answers, region=region)


def _usual_region(answers: Answers, facts: Facts) -> str:
    named = facts.environ.get("AWS_REGION") or facts.environ.get("AWS_DEFAULT_REGION")
    return named or ("eu-central-1" if answers.where.is_set_up else "us-east-1")


def _prices(answers: Answers, facts: Facts) -> str:
    """A table of what a month and a restore of everything cost, by class."""
    if answers.where is Where.S3:
        return ""
    kinds = (
        ["glacier"]
        if answers.where is Where.GLACIER
        else [f"s3:{storage_class}" for storage_class in CLASSES]
    )
    total, is_whole = facts.total(answers)
    found = [of_kind for kind in kinds if (of_kind := estimate(answers.region, kind, total)) is not None]
    if not found:
        return f"No prices are known for {answers.region}: see `nightvault prices`."
    about = f"{'' if is_whole else 'at least '}{size(total)}"
    table = builtin_table()
    head = f"For {about} in {answers.region}, {table.currency} by the prices of {table.date}:"
    titles = f"  {'':<15} {'a month':>8}  {'restore of all':>14} {'ready after':<17} {'kept at least'}"
    notes = ["Compressed and without what is there twice it is less. A second night adds what"]
    notes += [
        "has changed. * taken from a region like it, not verified for this one."
        if any(quote.is_unverified for quote in found)
        else "has changed."
    ]
    return "\n".join(
        [head, titles, *(line for n, quote in enumerate(found, 1) for line in _lines(n, quote)), *notes]
    )


def _lines(number: int, quote: Estimate) -> Iterator[str]:
    """A class: the restore that costs least, and the quicker one if there is any."""
    name = "one vault" if quote.kind == "glacier" else f"{number} {quote.kind.removeprefix('s3:')}"
    star = "*" if quote.is_unverified else " "
    days = f"{quote.days} days" if quote.days else "-"
    yield f"  {name:<15} {_money(quote.month):>8}{star} {_restore(quote.cheapest)} {days}"
    if quote.quickest.tier is not quote.cheapest.tier:
        yield f"  {'':<15} {'':>8}  {_restore(quote.quickest)}".rstrip()


def _restore(restore: Restore) -> str:
    when = hours_text(*restore.hours) if restore.hours[1] else "at once"
    return f"{_money(restore.cost):>14} {when:<17}"


def _money(amount: Decimal) -> str:
    return "< 0.01" if 0 < amount < _CENT else f"{amount:.2f}"


def _class(answers: Answers, text: str, _facts: Facts) -> Answers:
    if answers.where is Where.S3:
        return replace(answers, storage_class=text.strip().upper())
    words = text.strip().upper()
    exact = words if words in CLASSES else one_of(text, CLASSES)
    return replace(answers, storage_class=exact)


def _vault(answers: Answers, text: str, _facts: Facts) -> Answers:
    return replace(answers, vault=text.strip())


def _certificate(answers: Answers, text: str, _facts: Facts) -> Answers:
    place = text.strip()
    path = place if place.startswith(_TOKENS) else absolute(place)
    if os.path.isdir(path):
        raise UsageError(f"{path} is a directory: name the certificate's file")
    return replace(answers, certificate=path)


def _key(answers: Answers, text: str, _facts: Facts) -> Answers:
    place = text.strip()
    path = place if place.startswith(_TOKENS) else absolute(place)
    if os.path.isdir(path):
        raise UsageError(f"{path} is a directory: name the key's file")
    return replace(answers, private_key=path)


def _usual_certificate(_answers: Answers, facts: Facts) -> str:
    """The only certificate beside the config that has a key beside it, else the place where one belongs."""
    folder = os.path.dirname(facts.place.config)
    try:
        names = [file[:-4] for file in os.listdir(folder) if file.endswith(".pem")]
    except OSError:
        names = []
    paired = [name for name in names if os.path.exists(os.path.join(folder, f"{name}.key"))]
    return os.path.join(folder, f"{paired[0] if len(paired) == 1 else facts.place.host}.pem")


def _not_there(answers: Answers, _facts: Facts) -> str:
    if not is_missing(answers.certificate):
        return ""
    return f"{answers.certificate} is not there yet: at the end you are told how it is made."


def can_be_set_up(answers: Answers, facts: Facts) -> bool:
    """Whether AWS can be set up from this machine: it has AWS credentials and the certificate."""
    missing = is_missing(answers.certificate) or is_missing(answers.private_key)
    return answers.where.is_set_up and not missing and has_aws_keys(facts)


def _authority(answers: Answers, text: str, _facts: Facts) -> Answers:
    if text.strip().lower() == ELSEWHERE:
        return replace(answers, authority=None)
    path = absolute(text if text.strip().startswith(("/", "~")) else os.path.join(_here(), text.strip()))
    try:
        pem = read_small(path, _MOST_PEM).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no PEM file"
        raise UsageError(f"{path} cannot be read: {why}") from error
    authorities_in({path: pem})
    return replace(answers, authority=path)


def _usual_authority(_answers: Answers, facts: Facts) -> str:
    beside = os.path.dirname(facts.place.config)
    folders = (os.path.join(_here(), "ca"), os.path.join(beside, "ca"), beside)
    there = [folder for folder in folders if not facts.places.is_silent(folder)]
    places = [os.path.join(folder, name) for folder in there for name in ("anchor.pem", "ca.pem")]
    return next((place for place in places if os.path.exists(place)), ELSEWHERE)


def _here() -> str:
    """The directory in which somebody is; / where it was removed."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return "/"


IN_AWS = (
    Question(
        name="region",
        title="Which region?",
        help="Where the backups are to be, such as eu-central-1: prices differ by region.",
        applies=is_where(Where.AWS, Where.GLACIER, Where.S3),
        default=_usual_region,
        read=_region,
        keys=("vault[1].region",),
    ),
    Question(
        name="class",
        title="Which storage class?",
        help=(
            "DEEP_ARCHIVE is right for what is restored after a disaster only. GLACIER is ready in hours for "
            "less money, GLACIER_IR at once for more. What is deleted sooner than it is kept at least is "
            "billed until then. Catalogs stay in STANDARD, so that looking costs next to nothing. Other "
            "services have few classes, mostly STANDARD alone."
        ),
        applies=is_where(Where.AWS, Where.S3),
        lead=_prices,
        default=lambda answers, _facts: "STANDARD" if answers.where is Where.S3 else "DEEP_ARCHIVE",
        read=_class,
        keys=("vault[1].storage_class",),
    ),
    Question(
        name="vault",
        title="The Glacier vault's name?",
        help="`nightvault init` makes it if it is not there, in an account that may still have vaults.",
        applies=is_where(Where.GLACIER),
        lead=_prices,
        default=constant("nightvault"),
        read=_vault,
        keys=("vault[1].vault",),
    ),
    Question(
        name="certificate",
        title="This server's certificate?",
        help=(
            "With it the server gets keys for AWS that last an hour; no key of AWS is stored. `nightvault "
            "ca` makes an authority, off the server; docs/aws.md has the commands, and so has the end of "
            "this."
        ),
        applies=is_where(Where.AWS, Where.GLACIER),
        default=_usual_certificate,
        read=_certificate,
        keys=("identity.certificate",),
    ),
    Question(
        name="private_key",
        title="Its private key?",
        help="A file of mode 0600 that only this server has; or pkcs11:… and handle:… for a token or TPM.",
        applies=is_where(Where.AWS, Where.GLACIER),
        default=lambda answers, _facts: f"{os.path.splitext(answers.certificate)[0]}.key",
        read=_key,
        note=_not_there,
        keys=("identity.private_key",),
    ),
)

SET_UP = Question(
    name="set_up_by",
    title="Set AWS up from here, now? The authority's certificate:",
    help=(
        "Somebody's own credentials for AWS were found here. With them `nightvault setup aws` can make the "
        "trust anchor, roles, profile and bucket now; it shows them first. It needs the authority's "
        "certificate (ca.pem, no secret). Answer elsewhere to do it on an admin's machine: a server should "
        "not have an admin's credentials."
    ),
    applies=can_be_set_up,
    default=_usual_authority,
    read=_authority,
)
