"""The questions of `nightvault key enroll`, before a recovery key enrols a server."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from backup.errors import UsageError
from backup.files import create_durably, open_small

if TYPE_CHECKING:
    from backup.app.rebuilds.enrolling import Enrolment, Request
    from backup.cli.support.context import Cli
    from backup.config import Config
    from backup.model import InventoryId

ONE, MANY = 64 * 1024, 16 * 1024**2
"""Characters of a file with one request or enrolment, and with many, at the most."""

_BEGINNING = re.compile(r"[0-9a-f]{8,32}")
_COMPARE = "compare with `nightvault key status` on the server: it must print the same"


def whose_lines(inventory_id: InventoryId, fingerprint: str, ancestors: Sequence[InventoryId]) -> str:
    """Return inventory, signer and ancestors as text, in the same form on both machines for comparison."""
    lines = [f"inventory {inventory_id.hex()}", f"signer    {fingerprint}"]
    return "\n".join([*lines, *(f"ancestor  {ancestor.hex()}" for ancestor in ancestors)])


def read_text(path: str, most: int) -> str:
    """Return the text of a file, or of standard input (`-`). `UsageError`."""
    try:
        if path == "-":
            text = sys.stdin.buffer.read(4 * most).decode()
        else:
            with open(path, encoding="utf-8", opener=open_small) as file:
                text = file.read(most + 1)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text"
        raise UsageError(f"cannot read {path}: {reason}") from error
    if len(text) > most:
        raise UsageError(f"{path} is far too large", advice="give the file as nightvault printed it")
    return text


def show_request(cli: Cli, request: Request, *, asks: bool) -> None:
    """Show which server is to be enrolled; even with --quiet if a question follows."""
    tell = cli.warn if asks else cli.say
    tell(whose_lines(request.inventory_id, request.fingerprint, request.ancestors))
    if not request.signature:
        tell("this request is of an older version: it is not signed, and says nothing of ancestors, so that")
        tell("the enrolment will not prove from which inventories this one was rebuilt, if it was")
    tell(_COMPARE)


def require_heir(request: Request, heir_of: str | None, words: Sequence[str | None]) -> None:
    """Refuse a request with ancestors unless `--heir-of` names the nearest; `words` are the command line.

    Otherwise an attacker who replaces a request on its way would become the proven heir of a server.
    """
    if heir_of is not None and not _BEGINNING.fullmatch(heir_of.lower()):
        raise UsageError(
            f"--heir-of {heir_of!r} is not an inventory's id",
            advice="give its 32 hex digits, or at least the first 8",
        )
    if not request.ancestors:
        if heir_of is not None:
            raise UsageError(f"--heir-of {heir_of}: this request names no ancestors", advice=_COMPARE)
        return
    nearest = request.ancestors[0].hex()
    if heir_of is not None and nearest.startswith(heir_of.lower()):
        return
    command = shlex.join([word for word in (*words, "--heir-of", nearest) if word is not None])
    raise UsageError(
        f"this request says that its server goes on with inventory {nearest}"
        + (f", not {heir_of}" if heir_of else ": only --heir-of takes that, neither --yes nor an answer"),
        advice="if that is the inventory that you rebuilt, and `nightvault key status` on the server prints "
        f"the same as here: {command}",
    )


def require_yes(cli: Cli, question: str, *, yes: bool) -> None:
    """Ask the question unless --yes was given. `UsageError` if the answer is no."""
    if not yes and not cli.confirm(question):
        raise UsageError("nothing was enrolled: you did not say yes")


def write_enrolments(path: str, enrolments: Sequence[Enrolment]) -> None:
    """Write enrolments to a new file, one on each line. `UsageError`."""
    import json

    data = "".join(f"{json.dumps(enrolment.document())}\n" for enrolment in enrolments)
    try:
        create_durably(path, data.encode(), mode=0o644)
    except FileExistsError as error:
        raise UsageError(f"{path} is there already", advice="give another name with --out") from error
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def confirm_key(cli: Cli, config: Config, enrolment: Enrolment) -> None:
    """Ask before the enrolment key of a known recipient is replaced. `UsageError` if the answer is no."""
    from backup.app.rebuilds.enrolling import other_key

    known, signed = other_key(enrolment, config), enrolment.signed
    if known is None or signed is None:
        return
    old, new = known.fingerprint, signed.key.fingerprint
    cli.warn(f"the enrolment key of recipient {enrolment.recipient.hex()} is known with another fingerprint")
    cli.warn(f"known     {old}\nnew       {new}")
    cli.warn("a recovery key has but one: `nightvault key show FILE` prints it where the key is")
    if not cli.confirm(f"Keep the enrolment key {new} in place of {old}?", option=None):
        raise UsageError("nothing was kept: you did not say yes")
