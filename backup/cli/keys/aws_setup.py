"""The AWS set-up of `setup aws`: read from config and options, compared with AWS, shown, carried out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from backup.app.aws_setup import describe, diff
from backup.app.aws_setup.ca_input import authorities_in, bundle, checked_crl
from backup.app.aws_setup.calls import AwsCalls
from backup.app.aws_setup.carry_out import Planner, carry_out, try_sessions
from backup.app.aws_setup.config_file import (
    check_writable,
    note_of,
    read_config,
    replace_config,
    with_values,
)
from backup.app.aws_setup.look import VaultSetup, look
from backup.app.aws_setup.model import AwsAccount, Plan, PlannedCall, Resource, Verb, Wanted, together
from backup.app.aws_setup.wanted import (
    PURPOSES,
    Options,
    account_of,
    check_own_certificate,
    filled,
    missing_values,
    vault_tables,
    wanted_of,
)
from backup.app.money.prices import currency_of, price_of
from backup.cli.support.context import Cli
from backup.config import Config, config_of, find_config, load_config, read_document
from backup.errors import ConfigError, UsageError
from backup.files import read_small

if TYPE_CHECKING:
    from cryptography import x509


@dataclass(slots=True)
class SetUp:
    """A set-up: the wanted resources, those that exist in AWS, and the plan from these to those.

    All parts share trust anchor, profile and roles; each part has its own vault or bucket.
    """

    cli: Cli
    path: str
    config: Config
    values: Mapping[str, Mapping[str, str]]
    account: AwsAccount
    parts: Sequence[VaultSetup]
    planner: Planner
    text: str
    is_thorough: bool = False

    @property
    def wanted(self) -> Wanted:
        """The shared part of all set-ups: trust anchor, profile and roles."""
        return self.parts[0].wanted

    def plan(self) -> Plan:
        """Return the plan: the calls that lead from what exists to what is wanted."""
        return together([self.planner(part.wanted, part.found) for part in self.parts])

    def show(self, plan: Plan) -> None:
        """Show the plan as the result of the command."""
        document = describe.plan_document(plan, self.wanted, self.account)
        lines = self.config_lines() if self.planner is diff.to_make else []
        into = [f"would write into the config: {', '.join(lines)}"] if lines else []
        document = {**document, "config_lines": lines}
        self.cli.show(document, "\n".join([*self._lines(plan), *into, *self._notes(plan)]), wraps=True)

    def say(self, plan: Plan) -> None:
        """Show the plan on standard error, before the question whether to apply it."""
        for line in [*self._lines(plan), *self._notes(plan)]:
            self.cli.say(line)

    def _lines(self, plan: Plan) -> list[str]:
        head = f"set-up {self.wanted.name} in account {self.account.id}, {self.wanted.region}"
        return [head, f"as {self.account.caller}", *describe.lines_of(plan), describe.summary(plan)]

    def _notes(self, plan: Plan) -> list[str]:
        notes: list[str] = []
        if self.planner is diff.to_make:
            prices = {part.vault: price_of(self.config, self.config.vault(part.vault)) for part in self.parts}
            notes += describe.money(prices, currency_of(self.config))
            notes += self._who_deletes()
        if describe.warns_of_ca(plan):
            notes += describe.wrap(describe.OUTSIDE_CA, describe.WIDTH)
        return notes

    def _who_deletes(self) -> list[str]:
        sentences = {part.vault: describe.who_deletes(part.wanted) for part in self.parts}
        return [
            line
            for sentence in describe.of_each(sentences)
            for line in describe.wrap(sentence, describe.WIDTH)
        ]

    def carry_out(self) -> None:
        """Carry out the plan; report each call once it is done."""

        told: list[PlannedCall] = []

        def tell(step: PlannedCall) -> None:
            more = f": {step.words}" if told and describe.is_of_same(told[-1], step) else ""
            line = f"done: {step.verb} {step.kind} {step.name}{more}"
            self.cli.say("\n".join(describe.wrap(line, describe.WIDTH, subsequent_indent="      ")))
            told.append(step)

        carry_out(
            self.parts,
            self.planner,
            clock=self.cli.clock,
            look=self.look,
            begin=self._note,
            tell=tell,
            waits=self.cli.say,
        )
        for part in self.parts:
            if part.found.place is None or part.found.place.is_ours:
                self._remove_note(part.wanted)

    def look(self) -> None:
        """Find the resources that exist; those that the config no longer names only if nothing is made."""
        anywhere = self.config.roles_anywhere
        known = (anywhere.trust_anchor_arn, anywhere.profile_arn) if anywhere else ()
        look(self.parts, known=frozenset(known), is_thorough=self.is_thorough)

    def _note(self, part: VaultSetup, step: PlannedCall) -> None:
        """Note a vault before it is made."""
        note = note_of(self.path, part.wanted)
        if note is None or (step.verb, step.kind) != (Verb.MAKE, Resource.VAULT):
            return
        try:
            note.write()
        except OSError as error:
            self.cli.warn(
                f"cannot write {note.path}: {error.strerror}; should this be cut short before vault "
                f"{step.name} has its tag, --destroy will not know it"
            )

    def _remove_note(self, wanted: Wanted) -> None:
        note = note_of(self.path, wanted)
        if note is None:
            return
        try:
            note.remove()
        except OSError as error:
            self.cli.warn(f"cannot remove {note.path}, which is of no use any more: {error.strerror}")

    def report(self) -> None:
        """Return the state of the set-up in AWS as the result of the command."""
        plan = self.plan()
        document = describe.plan_document(plan, self.wanted, self.account)
        self.cli.report(
            {**document, **describe.arns(self.parts[0].found)},
            "\n".join([*describe.lines_of(plan), *self._result(plan)]),
            wraps=True,
        )

    def _result(self, plan: Plan) -> list[str]:
        if self.planner is diff.to_destroy:
            return [describe.ended(plan, destroyed=True)]
        return [describe.ended(plan, destroyed=False), *self._who_deletes()]

    def config_lines(self) -> Sequence[str]:
        """Return the config lines that `write_config` would write, as far as they are known now."""
        old, new = map(_by_table, self._changed(describe.arns(self.parts[0].found)))
        known, is_one = set(old), len(self.parts) == 1
        return [
            line if is_one or "=" not in table else f"{table}: {line}"
            for table, line in new
            if (table, line) not in known
        ]

    def check_config(self) -> None:
        """Raise `ConfigError` if the ARNs cannot be written to the config; called before anything is made."""
        unknown = {"trust_anchor_arn": "", "profile_arn": ""}
        old, new = self._changed({**unknown, **describe.arns(self.parts[0].found)})
        if new != old:
            check_writable(self.path)

    def write_config(self) -> str | None:
        """Write the known ARNs to the config; return the path of its backup copy, None if nothing changed."""
        old, new = self._changed(describe.arns(self.parts[0].found))
        if old != self.text:
            raise ConfigError(f"the config {self.path} was changed meanwhile: the ARNs were not put into it")
        return replace_config(self.path, old, new, self.cli.clock.now())

    def _changed(self, arns: Mapping[str, str]) -> tuple[str, str]:
        """The config's text as it is, and with these ARNs."""
        old = changed = read_config(self.path)
        for vault, values in self.values.items():
            changed = with_values(changed, vault, values, {"region": self.wanted.region, **arns})
        return old, changed

    def try_sessions(self) -> None:
        """Test the set-up: get credentials for each role of this certificate, with the present config."""
        config = load_config(self.path)
        ours, *others = self.wanted.roles
        arns = {ours.arn} | {
            role.arn for role in others if (role.common_name, role.unit) == (ours.common_name, ours.unit)
        }
        for part in self.parts:
            vault = config.vault(part.vault)
            try_sessions(config, vault, self.cli.clock, arns=arns, waits=self.cli.say)
            arns -= {getattr(vault, key) for key in PURPOSES}


def open_set_up(cli: Cli, mode: str, told: Mapping[str, object]) -> SetUp:
    """Read the config, ask AWS for the caller's identity, and look up which resources exist."""
    read = read_set_up(cli, mode, told)
    read.is_thorough = mode != "apply"
    read.look()
    return read


def read_set_up(cli: Cli, mode: str, told: Mapping[str, object]) -> SetUp:
    """Read the config and ask AWS for the caller's identity; resources are not looked up."""
    path = os.path.abspath(find_config(cli.config_path, os.environ))
    text, document = read_config(path), read_document(path)
    tables = vault_tables(document, _text(told, "vault_name"))
    anywhere = document.get("roles_anywhere")
    anywhere = anywhere if isinstance(anywhere, dict) else {}
    region = str(anywhere.get("region") or tables[0].get("region") or "")
    calls = [_calls_of(cli, table, anywhere, region) for table in tables]
    account = account_of(calls[0].read("sts", "get_caller_identity"))
    lets_delete = _text(told, "prune_subject") is not None
    name = str(told["name"])
    values = missing_values(document, tables, account, name, lets_delete=lets_delete)
    config = config_of(filled(document, values), path)
    authorities = () if mode == "destroy" else _authorities(told["authorities"])
    crl = None if mode == "destroy" else _text(told, "crl")
    options = _options(told, authorities, None if crl is None else checked_crl(crl, _file(crl), authorities))
    if authorities and options.subject is None:
        check_own_certificate(config, authorities)
    wanted = wanted_of(config, [config.vault(vault) for vault in values], account, options, made_up=values)
    parts = [
        VaultSetup(vault, _noted(path, setup), its_calls)
        for vault, setup, its_calls in zip(values, wanted, calls, strict=True)
    ]
    planner = diff.to_destroy if mode == "destroy" else diff.to_make
    return SetUp(cli, path, config, values, account, parts, planner, text)


def _by_table(text: str) -> list[tuple[str, str]]:
    """Return each line with its table: the heading, for a vault its name line; tables may change places."""
    tables = list[list[str]]([[""]])
    for line in filter(None, map(str.strip, text.splitlines())):
        if line.startswith("["):
            tables.append([])
        tables[-1].append(line)
    placed = list[tuple[str, str]]()
    for lines in tables:
        names = (line for line in lines if lines[0] == "[[vault]]" and line.split("=")[0].strip() == "name")
        table = next(names, lines[0])
        placed += ((table, line) for line in lines if line)
    return placed


def _calls_of(cli: Cli, table: Mapping[str, Any], anywhere: Mapping[str, Any], region: str) -> AwsCalls:
    """How AWS is asked for one vault, and for the rest."""
    return AwsCalls(
        region,
        {
            "rolesanywhere": _text(anywhere, "endpoint"),
            str(table.get("kind")): _text(table, "endpoint"),
        },
        clock=cli.clock,
        vault_region=str(table.get("region") or region),
        path_style=bool(table.get("path_style")),
    )


def _options(told: Mapping[str, object], authorities: Sequence[x509.Certificate], crl: str | None) -> Options:
    """The choices that the command line made."""
    return Options(
        name=str(told["name"]),
        certificates=bundle(authorities),
        crl=crl,
        subject=_text(told, "subject"),
        unit=_text(told, "unit"),
        prune_subject=_text(told, "prune_subject"),
        versioning=bool(told["versioning"]),
        shared=bool(told["shared"]),
    )


def _noted(path: str, wanted: Wanted) -> Wanted:
    """The same, with whether a note says that its vault was about to be made."""
    note = note_of(path, wanted)
    return replace(wanted, is_noted=note is not None and note.is_there())


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
