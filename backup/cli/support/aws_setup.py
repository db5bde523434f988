"""A set-up of AWS as the command sees it: opened from the config and the options, shown, carried out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import TYPE_CHECKING

from msgspec.structs import replace

from backup.app.aws_setup import diff, words
from backup.app.aws_setup.calls import AwsCalls
from backup.app.aws_setup.carry_out import Planner, carry_out
from backup.app.aws_setup.config_file import check_writable, read_config, replace_config, with_values
from backup.app.aws_setup.given import authorities_in, bundle, checked_crl
from backup.app.aws_setup.look import look
from backup.app.aws_setup.model import Found, Kind, Plan, Step, Verb, Wanted
from backup.app.aws_setup.note import note_of
from backup.app.aws_setup.old_places import with_old_places
from backup.app.aws_setup.sessions import try_sessions
from backup.app.aws_setup.wanted import (
    Account,
    Options,
    account_of,
    check_own_certificate,
    filled,
    missing_values,
    require_alone,
    vault_table,
    wanted_of,
)
from backup.app.prices import currency_of, price_of
from backup.cli.support.context import Cli
from backup.config import Config, config_of, find_config, load_config, read_document
from backup.errors import ConfigError, UsageError
from backup.files import read_small

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(slots=True)
class SetUp:
    """A set-up that was looked at: what is wanted, what is there, and how to get from one to the other."""

    cli: Cli
    path: str
    config: Config
    vault: str
    values: Mapping[str, str]
    account: Account
    wanted: Wanted
    calls: AwsCalls
    planner: Planner
    found: Found
    text: str
    is_thorough: bool = False

    def plan(self) -> Plan:
        """The steps from here."""
        return self.planner(self.wanted, self.found)

    def show(self, plan: Plan) -> None:
        """The plan as the command's result."""
        document = words.plan_document(plan, self.wanted, self.account)
        self.cli.show(document, "\n".join([*self._lines(plan), *self._notes(plan)]))

    def say(self, plan: Plan) -> None:
        """The plan as a remark, before a question."""
        for line in [*self._lines(plan), *self._notes(plan)]:
            self.cli.say(line)

    def _lines(self, plan: Plan) -> list[str]:
        head = f"set-up {self.wanted.name} in account {self.account.id}, {self.wanted.region}"
        return [head, f"as {self.account.caller}", *words.lines_of(plan), words.summary(plan)]

    def _notes(self, plan: Plan) -> list[str]:
        price = price_of(self.config, self.config.vault(self.vault))
        notes = [words.money(price, currency_of(self.config))] if self.planner is diff.to_make else []
        if self.planner is diff.to_make:
            notes += wrap(words.who_deletes(self.wanted), words.WIDTH)
        if words.warns_of_ca(plan):
            notes += wrap(words.OUTSIDE_CA, words.WIDTH)
        return notes

    def carry_out(self, plan: Plan) -> Found:
        """Do it, each step told when it is done."""

        def tell(step: Step) -> None:
            self.cli.say(f"done: {step.verb} {step.kind} {step.name}")

        found = self.found
        if plan.steps:
            found = carry_out(
                *(self.calls, self.wanted, self.found, self.planner),
                clock=self.cli.clock,
                look_again=self.look,
                begin=self._note,
                tell=tell,
            )
        if found.place is None or found.place.is_ours:
            self._remove_note()
        return found

    def look(self) -> Found:
        """What is there; what the config does not name any more is looked for unless something is made."""
        anywhere = self.config.roles_anywhere
        known = (anywhere.trust_anchor_arn, anywhere.profile_arn) if anywhere else ()
        found = look(self.calls, self.wanted, known=frozenset(known))
        return with_old_places(self.calls, self.wanted, found) if self.is_thorough else found

    def _note(self, step: Step) -> None:
        """Note a vault before it is made."""
        note = note_of(self.path, self.wanted)
        if note is None or (step.verb, step.kind) != (Verb.MAKE, Kind.VAULT):
            return
        try:
            note.write()
        except OSError as error:
            self.cli.warn(
                f"cannot write {note.path}: {error.strerror}; should this be cut short before vault "
                f"{step.name} has its tag, --destroy will not know it"
            )

    def _remove_note(self) -> None:
        note = note_of(self.path, self.wanted)
        if note is None:
            return
        try:
            note.remove()
        except OSError as error:
            self.cli.warn(f"cannot remove {note.path}, which is of no use any more: {error.strerror}")

    def report(self, found: Found) -> None:
        """What is there now."""
        plan = self.planner(self.wanted, found)
        document = words.plan_document(plan, self.wanted, self.account)
        self.cli.report(
            {**document, **words.arns(found)},
            "\n".join([*words.lines_of(plan), *self._result(plan)]),
        )

    def _result(self, plan: Plan) -> list[str]:
        if self.planner is diff.to_destroy:
            return [words.ended(plan, destroyed=True)]
        return [words.ended(plan, destroyed=False), *wrap(words.who_deletes(self.wanted), words.WIDTH)]

    def check_config(self) -> None:
        """Raise `ConfigError` if the config could not take the ARNs: before anything is made."""
        unknown = {"trust_anchor_arn": "", "profile_arn": ""}
        old, new = self._changed({**unknown, **words.arns(self.found)})
        if new != old:
            check_writable(self.path)

    def write_config(self, found: Found) -> str | None:
        """Put what is known now into the config; the path of the old one's copy, None if nothing changed."""
        old, new = self._changed(words.arns(found))
        if old != self.text:
            raise ConfigError(f"the config {self.path} was changed meanwhile: the ARNs were not put into it")
        return replace_config(self.path, old, new, self.cli.clock.now())

    def _changed(self, arns: Mapping[str, str]) -> tuple[str, str]:
        """The config's text as it is, and with these ARNs."""
        old = read_config(self.path)
        return old, with_values(old, self.vault, self.values, {"region": self.wanted.region, **arns})

    def try_sessions(self) -> None:
        """Get credentials for each role that is this certificate's, by the config as it is now."""
        config = load_config(self.path)
        ours, *others = self.wanted.roles
        arns = {ours.arn} | {
            role.arn for role in others if (role.common_name, role.unit) == (ours.common_name, ours.unit)
        }
        vault = config.vault(self.vault)
        try_sessions(config, vault, self.cli.clock, arns=arns, waits=self.cli.say)


def open_set_up(cli: Cli, mode: str, told: Mapping[str, object]) -> SetUp:
    """Read the config, ask AWS who we are, and look what is there."""
    read = read_set_up(cli, mode, told)
    read.is_thorough = mode != "apply"
    read.found = read.look()
    return read


def read_set_up(cli: Cli, mode: str, told: Mapping[str, object]) -> SetUp:
    """Read the config and ask AWS who we are; nothing is looked at."""
    path = os.path.abspath(find_config(cli.config_path, os.environ))
    text, document = read_config(path), read_document(path)
    table = vault_table(document, _text(told, "vault_name"))
    name, vault_name = str(told["name"]), str(table.get("name"))
    require_alone(document, vault_name)
    anywhere = document.get("roles_anywhere")
    anywhere = anywhere if isinstance(anywhere, dict) else {}
    region = str(anywhere.get("region") or table.get("region") or "")
    calls = AwsCalls(
        region,
        {
            "rolesanywhere": _text(anywhere, "endpoint"),
            str(table.get("kind")): _text(table, "endpoint"),
        },
        clock=cli.clock,
        vault_region=str(table.get("region") or region),
        path_style=bool(table.get("path_style")),
    )
    account = account_of(calls.read("sts", "get_caller_identity"))
    lets_delete = _text(told, "prune_subject") is not None
    values = missing_values(table, account, name, lets_delete=lets_delete)
    config = config_of(filled(document, vault_name, values), path)
    authorities = () if mode == "destroy" else _authorities(told["authorities"])
    crl = None if mode == "destroy" else _text(told, "crl")
    options = Options(
        name=name,
        certificates=bundle(authorities),
        crl=None if crl is None else checked_crl(crl, _file(crl), authorities),
        subject=_text(told, "subject"),
        unit=_text(told, "unit"),
        prune_subject=_text(told, "prune_subject"),
        versioning=bool(told["versioning"]),
        shared=bool(told["shared"]),
    )
    if authorities and options.subject is None:
        check_own_certificate(config, authorities)
    wanted = wanted_of(config, config.vault(vault_name), account, options, made_up=values)
    note = note_of(path, wanted)
    wanted = replace(wanted, is_noted=note is not None and note.is_there())
    planner = diff.to_destroy if mode == "destroy" else diff.to_make
    return SetUp(cli, path, config, vault_name, values, account, wanted, calls, planner, Found(), text)


def _text(told: Mapping[str, object], key: str) -> str | None:
    value = told.get(key)
    return value if isinstance(value, str) else None


_MOST_PEM = 1 << 20
AUTHORITY = ("ca/anchor.pem", "ca/ca.pem")
"""Where the authority's certificates are, if nobody says so: the first of these that is there."""


def _authorities(told: object) -> Sequence[x509.Certificate]:
    paths = told if isinstance(told, tuple) else ()
    if not paths:
        paths = tuple([path for path in AUTHORITY if os.path.exists(path)] or AUTHORITY[1:])[:1]
    return authorities_in({str(path): _file(str(path)) for path in paths})


def _file(path: str) -> str:
    """The text of a PEM file. `UsageError`."""
    try:
        return read_small(path, _MOST_PEM).decode("ascii")
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is no PEM file") from error
    except OSError as error:
        advice = "name the authority's certificate with --ca FILE; `nightvault ca create` makes one"
        raise ConfigError(f"cannot read {path}: {error.strerror}", advice=advice) from error
