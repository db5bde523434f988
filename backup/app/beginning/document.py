"""Makes the config from answers: TOML, with a short comment on each line that needs one; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tomlkit
from tomlkit.items import Table

from backup.app.beginning.answers import CHECK_AGE, DRILL, JOB, VAULT, Answers, ConfigPaths, Tell, Where

_LOCAL = ("localhost", "127.0.0.1", "[::1]")
_MOST_DRILLS = "1.00"  # a month, in the currency of the prices


def config_text(answers: Answers, place: ConfigPaths) -> str:
    """Return the text of the config, which passes `config check`."""
    document = tomlkit.document()
    document.add(tomlkit.comment("Written by `nightvault begin`. `nightvault config example` prints every"))
    document.add(tomlkit.comment("other key; after a change: `nightvault config check`."))
    for name, made in (
        ("state", _state(place)),
        ("encryption", _encryption(answers)),
        ("identity", _identity(answers)),
        ("monitoring", _monitoring(answers)),
        ("notify", _notify(answers, place)),
    ):
        if made is not None:
            document.add(tomlkit.nl())
            document.add(name, made)
    for name, made in (("vault", _vault(answers)), ("job", _job(answers)), ("drill", _drill(answers))):
        document.add(tomlkit.nl())
        tables = tomlkit.aot()
        tables.append(made)
        document.add(name, tables)
    return tomlkit.dumps(document)


def _table(values: Mapping[str, Any], comments: Mapping[str, str] | None = None) -> Table:
    """A table with these keys, those that have a comment below it."""
    made = tomlkit.table()
    for key, value in values.items():
        if comments and key in comments:
            for line in comments[key].splitlines():
                made.add(tomlkit.comment(line))
        made.add(key, value)
    return made


def _state(place: ConfigPaths) -> Table:
    return _table({"dir": place.state}, {"dir": "The inventory, the spool and this server's own keys."})


def _encryption(answers: Answers) -> Table | None:
    if answers.recipient is None:
        return None
    return _table(
        {"recipients": [answers.recipient]},
        {"recipients": "The public half of the recovery key: all that is needed to seal."},
    )


def _identity(answers: Answers) -> Table | None:
    if not answers.where.is_set_up:
        return None
    return _table(
        {"certificate": answers.certificate, "private_key": answers.private_key},
        {"certificate": "Who this server is for AWS; `setup aws` adds [roles_anywhere]."},
    )


def _monitoring(answers: Answers) -> Table | None:
    age = CHECK_AGE.get(answers.check or "")
    if age is None:
        return None
    return _table({"check_age": age}, {"check_age": "`status` warns where the last good check is older."})


def _notify(answers: Answers, place: ConfigPaths) -> Table | None:
    if answers.tell is Tell.NOBODY:
        return None
    channel = _table(_channel(answers, place), {"kind": "`nightvault notify test` tries it."})
    tables = tomlkit.aot()
    tables.append(channel)
    made = tomlkit.table(is_super_table=True)
    made.add("channel", tables)
    return made


def _channel(answers: Answers, place: ConfigPaths) -> dict[str, Any]:
    """The keys of the channel."""
    if answers.tell is not Tell.MAIL:
        return {"name": str(answers.tell), "kind": str(answers.tell), "url": answers.tell_to}
    host, port = _host_and_port(answers.mail_host)
    values: dict[str, Any] = {"name": "mail", "kind": "smtp", "host": host}
    values["port"] = int(port) if port else 25 if is_local(host) else 587
    values["security"] = "none" if is_local(host) else "starttls"
    values |= {"from": f"nightvault@{place.host}", "to": [answers.tell_to]}
    if answers.mail_user:
        values |= {"user": answers.mail_user, "password_file": answers.mail_password_file}
    return values


def is_local(mail_host: str) -> bool:
    """Whether mail is handed to this machine's own mail server, which needs no user and no TLS."""
    return _host_and_port(mail_host)[0].lower() in _LOCAL


def _host_and_port(text: str) -> tuple[str, str]:
    """The host and the port, "" for none, of HOST or HOST:PORT; an address of IPv6 is in brackets."""
    host, colon, port = text.rpartition(":")
    has_port = bool(colon) and port.isdecimal() and (":" not in host or host.endswith("]"))
    return (host, port) if has_port else (text, "")


def _vault(answers: Answers) -> Table:
    comments = {"name": "Where archives go."}
    values: dict[str, Any] = {"name": VAULT}
    if answers.where is Where.DISK:
        values |= {"kind": "directory", "path": answers.path}
    elif answers.where is Where.GLACIER:
        values |= {"kind": "glacier", "region": answers.region, "vault": answers.vault}
        comments["region"] = "`setup aws` adds role_arn."
    elif answers.where is Where.AWS:
        values |= {"kind": "s3", "region": answers.region, "storage_class": answers.storage_class}
        comments["region"] = "`setup aws` adds bucket and role_arn."
    else:
        values |= {"kind": "s3", "region": answers.region, "bucket": answers.bucket}
        values |= {"endpoint": answers.endpoint, "path_style": answers.path_style}
        values["storage_class"] = answers.storage_class
        comments["endpoint"] = (
            "Its keys: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY,\nor ~/.aws/credentials."
        )
        if not answers.crc:
            values["checksums"] = "none"
    if answers.check is not None:
        values["check"] = answers.check
        comments["check"] = "When the daemon compares what is stored with the vault's list."
    return _table(values, comments)


def _job(answers: Answers) -> Table:
    values: dict[str, Any] = {"name": JOB, "vault": VAULT, "sources": list(answers.sources)}
    comments = {"name": "What is backed up."}
    if secret := [path for path in (answers.key_file, answers.sheet) if path and _is_saved(answers, path)]:
        values["exclude"] = secret
        comments["exclude"] = "The recovery key leaves this server by other ways."
    if answers.schedule is not None:
        values["schedule"] = answers.schedule
        comments["schedule"] = "When the daemon runs it, in this machine's time zone."
    made = _table(values, comments)
    made["sources"].multiline(len(tomlkit.item(values["sources"]).as_string()) > 60)
    if answers.keep is not None:
        policy = tomlkit.table()
        policy.add(tomlkit.comment("What is kept; `nightvault forget --simulate` tries another."))
        for key, value in answers.keep.items():
            policy.add(key, value)
        made.add(tomlkit.nl())
        made.add("retention", policy)
    return made


def _is_saved(answers: Answers, path: str) -> bool:
    """Whether a file of the recovery key, if it is made here, lies in what is backed up."""
    below = [source.rstrip("/") + "/" for source in answers.sources]
    return answers.recipient is None and path.startswith(tuple(below))


def _drill(answers: Answers) -> Table:
    values: dict[str, Any] = {"name": DRILL, "vault": VAULT, "sample": "1 file"}
    comments = {"name": "A rehearsal of a restore: `nightvault drill run`."}
    if answers.where.is_set_up:
        values["max_cost_per_month"] = tomlkit.float_(_MOST_DRILLS)
    return _table(values, comments)
