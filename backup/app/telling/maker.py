"""Makes messages, as rows, from runs and concerns, and selects their channels."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from datetime import date, datetime

from msgspec import Struct
from msgspec.structs import replace

from backup.app.money.prices import currency_of
from backup.app.status.parts import Concern, Level, Status, Topic
from backup.app.status.unusual import unusual_in
from backup.app.status.verified import proof_text, proofs_of_jobs
from backup.app.telling.channels import chosen, quiet_hours, zone_of
from backup.config import Config
from backup.errors import ExitCode
from backup.inventory.content import snapshots
from backup.inventory.questions import status as queries
from backup.inventory.records import messages
from backup.inventory.records.messages import Message
from backup.inventory.records.runs import Run
from backup.inventory.store.connections import Transaction
from backup.inventory.store.states import MessageKind
from backup.kinds import Outcome, RunKind
from backup.model import JobName, VaultName
from backup.notify import decide
from backup.notify.letter import Letter
from backup.notify.run_letters import LetterContext, by_turns, details_of, letter_of, named
from backup.reports import recorded_facts, rows_of

WARNED_OF = frozenset(
    {
        *(Topic.CERTIFICATE, Topic.DISK, Topic.COST, Topic.CHECK, Topic.VAULT, Topic.SHRUNK),
        Topic.UNKNOWN,
    }
)
"""The topics of concerns that warn: a run will fail, or something is lost, unless somebody acts."""


class Maker(Struct, frozen=True):
    """Makes messages, as rows, at one moment."""

    config: Config
    now: datetime

    def of_runs(self, tx: Transaction, unrecorded: Run | None) -> None:
        """Make messages of each run that ended since the last call, and mark it as seen."""
        seen: list[Run] = []
        for run in messages.unnoticed_runs(tx):
            self._of_run(tx, run)
            messages.mark_noticed(tx, run.number)
            seen.append(run)
        if unrecorded is not None and not any(_tells_of(run, unrecorded) for run in seen):
            self._of_run(tx, unrecorded)

    def _of_run(self, tx: Transaction, run: Run) -> None:
        if not self.config.notify.channel or not self._is_configured(run):
            return
        at = self.letter_context(tx, run)
        step = decide.of_run(run, messages.told_states(tx), self.now, self._today())
        self._apply(tx, step)
        if step.kind is not None:
            letter = letter_of(run, step.kind, at)
            if step.flapped is not None:
                letter = by_turns(letter, step.flapped, at)
            self._add(tx, step.kind, step.key, letter, run, at.vault)
        if run.kind is RunKind.BACKUP:
            key = f"run/{run.number or self.now.isoformat()}/{run.job}/{run.outcome}"
            self._add(tx, MessageKind.RUN, key, letter_of(run, MessageKind.RUN, at), run, at.vault)
            if at.remarks and self.config.job(run.job or "").alarm_on_unusual:
                self._add_alarm(tx, run, at)

    def _add_alarm(self, tx: Transaction, run: Run, at: LetterContext) -> None:
        letter = letter_of(run, MessageKind.WARNING, at)
        title = f"{at.host}: {named(run)} was unusual: look whether that is right"
        advice = "if nobody changed so much, look for what did: `nightvault diff` names the files"
        key = f"unusual/{run.number}"
        self._add(tx, MessageKind.WARNING, key, replace(letter, title=title, advice=advice), run, at.vault)

    def of_concerns(self, tx: Transaction, status: Status, wanted: frozenset[Topic]) -> None:
        """Make messages of concerns of these topics, and end told states whose concern is gone."""
        told = messages.told_states(tx)
        there: dict[str, Concern] = {}
        for concern in status.concerns:  # the critical first
            if concern.topic in wanted:
                there.setdefault(_subject(concern), concern)
        for subject, concern in there.items():
            kind = MessageKind.OVERDUE if concern.topic is Topic.OVERDUE else MessageKind.WARNING
            level = int(concern.level is Level.CRITICAL)
            step = decide.of_state(kind, subject, told, self.now, self._today(), level=level)
            self._apply(tx, step)
            if step.kind is not None:
                letter = self._letter(concern)
                document = {"job": concern.job, "topic": str(concern.topic), "level": str(concern.level)}
                self._write(tx, step.kind, step.key, letter, concern.job, None, document)
        prefixes = tuple(map(_states_of, wanted))
        for subject in told:
            if subject.startswith(prefixes) and subject not in there:
                messages.drop_state(tx, subject)

    def _letter(self, concern: Concern) -> Letter:
        host = socket.gethostname()
        text = concern.text
        facts = [("what", text), ("level", str(concern.level))]
        return Letter(f"{host}: {text}", host, facts, command=concern.command or "")

    def _is_configured(self, run: Run) -> bool:
        """Whether the config still has the job or vault of the run; for others no message is sent."""
        if run.job is not None:
            return any(job.name == run.job for job in self.config.jobs)
        return run.vault is None or any(settings.name == run.vault for settings in self.config.vaults)

    def letter_context(self, tx: Transaction, run: Run) -> LetterContext:
        """Return what a letter about the run says besides the run itself."""
        settings = next((job for job in self.config.jobs if job.name == run.job), None)
        dates = queries.snapshot_dates(tx, self.now).get(run.job) if run.job else None
        made = snapshots.of_run(tx, run.number) if run.kind is RunKind.BACKUP else None
        return LetterContext(
            host=socket.gethostname(),
            zone=zone_of(self.config),
            vault=settings.vault if settings else None,
            last_good=dates.newest if dates else None,
            problems=made.problems if made else (),
            remarks=unusual_in(tx, run),
            proven=self._proven(tx, run),
            rows=rows_of(recorded_facts(run, currency_of(self.config))),
        )

    def _proven(self, tx: Transaction, run: Run) -> str:
        """Return how much of the run's job was ever verified, in words; empty if nothing of it is stored."""
        proof = proofs_of_jobs(tx, self.now).get(run.job) if run.job else None
        return proof_text(proof) if proof is not None and proof.bytes else ""

    def _today(self) -> date:
        return self.now.astimezone(zone_of(self.config)).date()

    def _apply(self, tx: Transaction, step: decide.Consequences) -> None:
        for state in (step.state, step.hour):
            if state is not None:
                messages.put_state(tx, state)
        for subject in step.ended:
            messages.drop_state(tx, subject)

    def _add(
        self, tx: Transaction, kind: MessageKind, key: str, letter: Letter, run: Run, vault: VaultName | None
    ) -> None:
        more = {**details_of(run, vault), "exit_code": exit_code_of(run)}
        self._write(tx, kind, key, letter, run.job, run.number or None, more)

    def _write(
        self,
        tx: Transaction,
        kind: MessageKind,
        key: str,
        letter: Letter,
        job: JobName | None,
        run: int | None,
        more: Mapping[str, object],
    ) -> None:
        channels = {}
        for channel in chosen(self.config, kind, job):
            quiet = quiet_hours(self.config, channel)
            channels[channel.name] = self.now if quiet is None else quiet.allowed_from(self.now)
        if channels:
            document = {**more, "letter": letter.document()}
            messages.add(tx, Message(key, kind, self.now, letter.title, document, job, run), channels)


def exit_code_of(run: Run) -> int | None:
    """Return a run's exit code; None for one that neither succeeded nor failed."""
    if run.outcome is Outcome.FAILED:
        code = run.report.get("exit_code")
        return code if isinstance(code, int) and 0 < code <= 255 else int(ExitCode.FAILED)
    return {Outcome.DONE: int(ExitCode.DONE), Outcome.PARTIAL: int(ExitCode.PARTIAL)}.get(run.outcome)


def _tells_of(run: Run, unrecorded: Run) -> bool:
    """Whether a recorded run is the one that failed."""
    is_same = (run.kind, run.job) == (unrecorded.kind, unrecorded.job)
    if run.job is None:
        is_same = is_same and run.vault == unrecorded.vault
    return is_same and run.outcome is Outcome.FAILED and run.started_at >= unrecorded.started_at


def _subject(concern: Concern) -> str:
    return f"{_states_of(concern.topic)}{concern.job or concern.about}"


def _states_of(topic: Topic) -> str:
    """Return the prefix of a topic's told states, which no state of a run has."""
    return decide.overdue_subject("") if topic is Topic.OVERDUE else f"warning/{topic}/"
