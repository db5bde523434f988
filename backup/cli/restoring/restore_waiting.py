"""Waits for the retrievals of a restore or dump."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from backup.cli.support.context import Cli
from backup.cli.support.waiting import daemon_runs, expected_text, wait_until

if TYPE_CHECKING:
    from backup.app.money.expected_times import Expected
    from backup.inventory.records.retrievals import Restore, Retrieval
    from backup.restorer.restore import RestoreContext
    from backup.transfer.retry import RetryLimit


@contextmanager
def telling_what_stays(cli: Cli, begun: Restore) -> Iterator[None]:
    """If the body fails, warn that the restore stays open: a daemon continues it, which may cost money."""
    from backup.errors import NightvaultError, RetrievalNotReadyError
    from backup.restorer.selection.choice import Choice

    try:
        yield
    except RetrievalNotReadyError:  # it says so itself
        raise
    except NightvaultError:
        again = "the same dump command" if Choice.decode(begun.choice).output else "a daemon"
        cli.warn(
            f"restore {begun.id} is recorded: {again} goes on with it, and asks for what is missing; "
            f"`nightvault restore cancel {begun.id}` ends it"
        )
        raise


def expected_of(cli: Cli, begun: Restore, known: Sequence[Retrieval]) -> Expected | None:
    """Return the time at which all retrievals of a restore are expected to be ready; None if unknown."""
    from backup.app.money.expected_times import expected

    config = cli.config()
    return expected(config.vault(begun.vault), known, config.vaults)


def wait_until_readable(
    is_readable: Callable[[Sequence[Retrieval]], bool],
    known: Sequence[Retrieval],
    cli: Cli,
    begun: Restore,
    context: RestoreContext,
    *,
    wait: bool,
) -> Sequence[Retrieval]:
    """Return the retrievals of a restore once they are readable; without `wait` as they are now.

    A vault that answers at once is always waited for.
    """
    from backup.cli.render.render import counted
    from backup.inventory.store.states import SETTLED
    from backup.restorer.restore import advance

    def title(known: Sequence[Retrieval]) -> str:
        count = counted(sum(retrieval.state not in SETTLED for retrieval in known), "retrieval")
        when = expected_text(expected_of(cli, begun, known), cli.clock.now())
        return f"Restore {begun.id[:8]} waits for {count} ({begun.tier}){when}"

    def look_again(retry_limit: RetryLimit) -> Sequence[Retrieval]:
        return advance(begun, context.within(retry_limit))

    return wait_until(
        is_readable,
        known,
        look_again,
        cli=cli,
        progress=context.progress,
        stays=wait or not context.vault.traits.waits,
        title=title,
        hint=f"Ctrl-C is safe: `nightvault restore resume {begun.id}` goes on"
        + (", and so does the daemon" if daemon_runs(cli) else ""),
    )
