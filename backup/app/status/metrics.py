"""Metrics for Prometheus as a text file, which node_exporter's textfile collector reads.

`metrics_file.py` writes it. All values come from the inventory, so a run that fails takes nothing away: the
last good values stay. No label has the name of a snapshot, and no scrape reaches a vault.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from backup.app.status.parts import JobStatus, ScheduledStatus, Status, VaultStatus
from backup.inventory.records.readings import Grade
from backup.kinds import Outcome

RESULTS: Mapping[Outcome, int] = {
    Outcome.DONE: 0,
    Outcome.PARTIAL: 1,
    Outcome.FAILED: 2,
    Outcome.INTERRUPTED: 3,
}
"""The values of `nightvault_run_result`."""

GRADES: Mapping[Grade, str] = {Grade.READ_BACK: "read_back", Grade.OPENED: "opened"}
"""The values of the label `grade`."""


class _Gauge(Struct, frozen=True):
    """A gauge: its name, what it means, and its values with their labels."""

    name: str
    help: str
    values: Sequence[tuple[Mapping[str, str], str]]

    def lines(self) -> Iterator[str]:
        """Return the metric's lines for Prometheus; none if it has no value."""
        if not self.values:
            return
        yield f"# HELP nightvault_{self.name} {_escaped_help(self.help)}"
        yield f"# TYPE nightvault_{self.name} gauge"
        for labels, value in self.values:
            told = ",".join(f'{name}="{escaped_label(text)}"' for name, text in labels.items())
            yield f"nightvault_{self.name}{{{told}}} {value}" if told else f"nightvault_{self.name} {value}"


def metrics_text(status: Status) -> str:
    """Return a status in Prometheus's text format."""
    gauges = [
        *_of_jobs(status.jobs),
        *_of_proofs(status.jobs),
        *_of_locks(status.jobs),
        *_of_scheduled(status.scheduled),
        *_of_vaults(status.vaults, status.currency),
        *_of_server(status),
    ]
    return "".join(f"{line}\n" for gauge in gauges for line in gauge.lines())


def escaped_label(text: str) -> str:
    """Return a label's value with backslash, quote and line feed escaped, and invalid UTF-8 replaced."""
    plain = text.encode("utf-8", "replace").decode()
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _of_jobs(jobs: Sequence[JobStatus]) -> Iterator[_Gauge]:
    def gauge(name: str, told: str, values: Sequence[str | None]) -> _Gauge:
        pairs = zip(jobs, values, strict=True)
        return _Gauge(name, told, [(_labels(job), value) for job, value in pairs if value is not None])

    def times(moments: Sequence[datetime | None]) -> list[str | None]:
        return [None if moment is None else _time(moment) for moment in moments]

    last = [job.last_run for job in jobs]
    yield gauge(
        "last_success_timestamp_seconds",
        "When the newest backup began that made a snapshot which is kept.",
        times([job.last_good for job in jobs]),
    )
    yield gauge(
        "last_run_timestamp_seconds",
        "When the newest backup that has ended began, whatever its outcome.",
        times([None if run is None else run.started_at for run in last]),
    )
    yield gauge(
        "run_result",
        "How that ended: 0 done, 1 partial, 2 failed, 3 interrupted.",
        [None if run is None else str(RESULTS[run.outcome]) for run in last],
    )
    yield gauge(
        "next_run_timestamp_seconds", "When the job is due next.", times([job.next_at for job in jobs])
    )
    yield gauge(
        "overdue_timestamp_seconds",
        "From when the job is overdue, unless a backup makes a snapshot before.",
        times([job.overdue_from for job in jobs]),
    )
    yield gauge(
        "overdue",
        "Whether the job was overdue when this file was written; the time above needs no new file.",
        [str(int(job.is_overdue)) for job in jobs],
    )


def _of_proofs(jobs: Sequence[JobStatus]) -> Iterator[_Gauge]:
    """Yield how much of each job's archives was verified, and when last, by grade."""
    there = [(job, grade) for job in jobs if job.proof.bytes for grade in GRADES]

    def labels(job: JobStatus, grade: Grade) -> dict[str, str]:
        return {**_labels(job), "grade": GRADES[grade]}

    yield _Gauge(
        "proven_ratio",
        "The share of a job's archives that was ever read back or opened, 0 to 1.",
        [(labels(job, grade), f"{job.proof.share(grade) or 0:.6f}") for job, grade in there],
    )
    last = [(job, grade, job.proof.last(grade)) for job, grade in there]
    yield _Gauge(
        "last_proven_timestamp_seconds",
        "When something of a job's archives was last read back or opened.",
        [(labels(job, grade), _time(when)) for job, grade, when in last if when is not None],
    )


def _of_locks(jobs: Sequence[JobStatus]) -> Iterator[_Gauge]:
    """Yield until when each job restores whatever an intruder does; 0 for one that is not protected."""
    locking = [job for job in jobs if job.lock_for is not None]
    ends = [(job, job.locks.until if job.locks else None) for job in locking]
    yield _Gauge(
        "locked_until_timestamp_seconds",
        "Until when the job's snapshots restore whatever an intruder does; 0: not protected.",
        [(_labels(job), "0" if until is None else _time(until)) for job, until in ends],
    )


def _of_scheduled(several: Sequence[ScheduledStatus]) -> Iterator[_Gauge]:
    """When all else that has a schedule was good last, and from when it is overdue."""

    def gauge(name: str, told: str, moments: Sequence[datetime | None]) -> _Gauge:
        pairs = zip(several, moments, strict=True)
        return _Gauge(name, told, [(labels(task), _time(when)) for task, when in pairs if when is not None])

    def labels(task: ScheduledStatus) -> dict[str, str]:
        return {"task": task.kind, "name": task.name}

    yield gauge(
        "task_last_success_timestamp_seconds",
        "When the newest prune, check, drill and so on began that has ended well.",
        [task.last_good for task in several],
    )
    yield gauge(
        "task_overdue_timestamp_seconds",
        "From when it is overdue, unless one ends well before.",
        [task.overdue_from for task in several],
    )


def _of_vaults(vaults: Sequence[VaultStatus], currency: str) -> Iterator[_Gauge]:
    there = [vault for vault in vaults if vault.archives]
    yield _Gauge(
        "stored_bytes",
        "Bytes of the archives in a vault.",
        [(_vault(vault), str(vault.bytes)) for vault in there],
    )
    yield _Gauge(
        "archives", "Archives in a vault.", [(_vault(vault), str(vault.archives)) for vault in there]
    )
    yield _Gauge(
        "monthly_cost",
        "What storing that costs a month, in the currency of the price table, without tax.",
        [
            ({**_vault(vault), "currency": currency}, f"{vault.month:.6f}")
            for vault in there
            if vault.month is not None and currency  # without a table of prices nobody knows one
        ],
    )
    yield _Gauge(
        "oldest_unverified_timestamp_seconds",
        "When the oldest archive was stored of which no check has read anything back.",
        [
            (_vault(vault), _time(vault.unverified_since))
            for vault in there
            if vault.unverified_since is not None
        ],
    )


def _of_server(status: Status) -> Iterator[_Gauge]:
    certificate = status.certificate
    end = None if certificate is None else certificate.not_after
    yield _Gauge(
        "certificate_expiry_timestamp_seconds",
        "When this server's certificate expires.",
        [] if end is None else [({}, _time(end))],
    )
    yield _Gauge("open_restores", "Restores that are not finished.", [({}, str(len(status.restores)))])
    yield _Gauge(
        "concerns",
        "What `nightvault status` told of when this file was written; 0: all is well.",
        [({}, str(len(status.concerns)))],
    )


def _labels(job: JobStatus) -> dict[str, str]:
    return {"job": job.name, "vault": job.vault}


def _vault(vault: VaultStatus) -> dict[str, str]:
    return {"vault": vault.name}


def _time(moment: datetime) -> str:
    return f"{moment.timestamp():.0f}"
