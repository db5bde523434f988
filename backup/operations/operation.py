"""The protocol of operations: what all runs have in common, whoever begins them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol, Self, TypeVar

from backup.app.base.run_context import RunContext
from backup.config import Config
from backup.kinds import RunKind
from backup.reports import Report
from backup.transfer.retry import RetryLimit

R_co = TypeVar("R_co", bound=Report, covariant=True)


class Operation(Protocol[R_co]):
    """A run of one kind, of one vault, job or drill, ready to be done."""

    kind: ClassVar[RunKind]
    of_job: ClassVar[bool]
    """Whether it is of a job; else of a vault or a drill."""
    records_itself: ClassVar[bool]
    """Whether its steps open and end the row of its run; else a row is made once it is over."""

    @classmethod
    def of(cls, at: RunContext, name: str) -> Self:
        """The run of that vault, job or drill as the config wishes it, with an open inventory."""
        ...

    @staticmethod
    def about(config: Config, name: str) -> Mapping[str, object]:
        """The names of the run in its record: a vault, a drill."""
        ...

    @property
    def name(self) -> str:
        """The vault, job or drill that it is of."""
        ...

    def step(self, retry_limit: RetryLimit | None = None) -> R_co:
        """Do what can be done now. `LockedError` while another run stands in its way: nothing was done."""
        ...
