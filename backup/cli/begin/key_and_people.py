"""Questions about the recovery key's file, notifications, and whether to make the first backup now."""

from __future__ import annotations

import os

from msgspec.structs import replace

from backup.app.beginning.answers import Answers, Tell, Where
from backup.app.beginning.document import is_local
from backup.app.beginning.measure import can_be_made, is_below
from backup.cli.begin.question import NONE, Facts, Question, is_none, one_of, yes_or_no
from backup.cli.begin.what_and_where import absolute, constant
from backup.errors import UsageError

HERE = "here"


def _recovery_key(answers: Answers, text: str, _facts: Facts) -> Answers:
    words = text.strip()
    if words.lower() == HERE:
        return replace(answers, recipient=None)
    if words.upper().startswith("NVK1"):
        raise UsageError(
            "that is a recovery key itself, which belongs on no server: give its public half, nvr1…, which "
            "`nightvault key show FILE` prints where the key is"
        )
    if words.startswith("file:"):
        words = f"file:{absolute(words.removeprefix('file:'))}"
    elif not words.startswith("nvr1"):
        raise UsageError(f"{text!r} must be {HERE}, nvr1… or file:PATH")
    return replace(answers, recipient=words)


def _new_file(answers: Answers, text: str, facts: Facts) -> str:
    """The path of a file that can be made. `UsageError`."""
    path = absolute(text)
    folder = os.path.dirname(path)
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already, and a key is never written over")
    if not os.path.isdir(folder):
        raise UsageError(f"the directory {folder} is not there")
    can_be_made(path)
    if path == facts.place.config:
        raise UsageError(f"{path} is to be the config")
    if answers.where is Where.DISK and is_below(path, answers.path):
        raise UsageError(f"{path} lies in the vault: whoever has that disk could read every backup")
    return path


def _key_file(answers: Answers, text: str, facts: Facts) -> Answers:
    words = text.strip()
    if words and not words.startswith(("/", "~")):  # beside whoever types it
        words = os.path.abspath(words)
    return replace(answers, key_file=_new_file(answers, words, facts))


def _sheet(answers: Answers, text: str, facts: Facts) -> Answers:
    if is_none(text):
        return replace(answers, sheet=None)
    path = _new_file(answers, text, facts)
    if path == answers.key_file:
        raise UsageError(f"{path} is the key's own file")
    return replace(answers, sheet=path)


def _is_made_here(answers: Answers, facts: Facts) -> bool:
    return answers.recipient is None and not facts.has_key


def _tell_by(answers: Answers, text: str, _facts: Facts) -> Answers:
    return replace(answers, tell=Tell(one_of(text, list(Tell))))


def _to(answers: Answers, text: str, _facts: Facts) -> Answers:
    if not text.strip():
        raise UsageError("there is no default: give an address")
    return replace(answers, tell_to=text.strip())


def _host(answers: Answers, text: str, _facts: Facts) -> Answers:
    return replace(answers, mail_host=text.strip())


def _user(answers: Answers, text: str, _facts: Facts) -> Answers:
    return replace(answers, mail_user="" if is_none(text) else text.strip())


def _password_file(answers: Answers, text: str, _facts: Facts) -> Answers:
    return replace(answers, mail_password_file=absolute(text))


def _is_mail(answers: Answers, _facts: Facts) -> bool:
    return answers.tell is Tell.MAIL


def _is_other_host(answers: Answers, _facts: Facts) -> bool:
    return answers.tell is Tell.MAIL and not is_local(answers.mail_host)


def _now(answers: Answers, text: str, _facts: Facts) -> Answers:
    return replace(answers, first_backup=yes_or_no(text))


def _can_begin(answers: Answers, _facts: Facts) -> bool:
    """Whether the vault can be used once the config is written."""
    return not answers.where.is_set_up or answers.authority is not None


def _free_key_file(_answers: Answers, facts: Facts) -> str:
    """A file at home that is not there, and whose sheet is not."""
    names = ("nightvault-recovery.key", *(f"nightvault-recovery-{number}.key" for number in range(2, 100)))
    paths = [os.path.join(facts.home, name) for name in names]
    return next((path for path in paths if not any(map(os.path.lexists, (path, _sheet_of(path))))), "")


def _sheet_of(key_file: str) -> str:
    return f"{os.path.splitext(key_file)[0]}-sheet.txt"


KEY_AND_PEOPLE = (
    Question(
        name="recovery_key",
        title="Where is the recovery key made?",
        applies=lambda _answers, facts: not facts.has_key,
        help=(
            f"It alone opens the backups; the server needs only its public half. {HERE}: it is made now, "
            "into a file that you take off the server. Or make it on another machine (`nightvault key "
            "generate`) and give what that prints, nvr1…, or file:PATH of a file that holds it; three "
            "commands at the end enrol this server with that key."
        ),
        default=constant(HERE),
        read=_recovery_key,
        keys=("encryption.recipients",),
    ),
    Question(
        name="key_file",
        title="Into which file?",
        help=(
            "Best on a stick that is mounted now. It is made with mode 0600, and never written over. "
            "Anywhere else, move it to another machine afterwards: until then `nightvault doctor` reminds "
            "you."
        ),
        applies=_is_made_here,
        default=_free_key_file,
        read=_key_file,
    ),
    Question(
        name="sheet",
        title="A sheet to print, into which file?",
        help=(
            "The key in 14 numbered groups, and what it is for: paper outlives sticks. You are asked for "
            f"some of the groups once it is printed or copied. {NONE}: no sheet; you are asked all the same."
        ),
        applies=_is_made_here,
        default=lambda answers, _facts: _sheet_of(answers.key_file),
        read=_sheet,
    ),
    Question(
        name="tell",
        title="Who is told when something is wrong?",
        help=(
            "mail: by a mail server. ntfy: to a phone. webhook: any address that takes JSON. ping: a service "
            "that raises an alarm when a night is missing, such as healthchecks. nobody: only `nightvault "
            "status` tells. docs/notify.md has more."
        ),
        lead=lambda _answers, _facts: f"  {', '.join(Tell)}",
        default=constant(Tell.NOBODY),
        read=_tell_by,
    ),
    Question(
        name="tell_to",
        title="To which address?",
        help="For mail somebody@example.org; else https://HOST/…, as the service gives it.",
        applies=lambda answers, _facts: answers.tell is not Tell.NOBODY,
        default=constant(""),
        read=_to,
        keys=("notify.channel[1].to", "notify.channel[1].url"),
    ),
    Question(
        name="mail_server",
        title="By which mail server?",
        help="HOST or HOST:PORT. Another than localhost is spoken to with TLS (STARTTLS, port 587).",
        applies=_is_mail,
        default=constant("localhost"),
        read=_host,
        keys=("notify.channel[1].host", "notify.channel[1].port", "notify.channel[1].from"),
    ),
    Question(
        name="mail_user",
        title="Its user name?",
        help=f"{NONE}: it takes mail of this machine without one.",
        applies=_is_other_host,
        default=constant(NONE),
        read=_user,
    ),
    Question(
        name="mail_password_file",
        title="The file with the password?",
        help="A file of mode 0600 that holds the password alone. The password itself is not asked for.",
        applies=lambda answers, facts: _is_other_host(answers, facts) and bool(answers.mail_user),
        default=lambda _answers, facts: os.path.join(os.path.dirname(facts.place.config), "mail-password"),
        read=_password_file,
        keys=("notify.channel[1].user", "notify.channel[1].password_file"),
    ),
)

FIRST_BACKUP = Question(
    name="first_backup",
    title="Make the first backup at once, and try a restore of one file?",
    help="no: `nightvault backup` makes it whenever you say so, and the daemon by its schedule.",
    applies=_can_begin,
    default=constant("yes"),
    read=_now,
)
