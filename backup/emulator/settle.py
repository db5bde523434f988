"""What the passing of time does, caught up with before each request: jobs end, inventories are made, old
things go.

Between two requests nothing else changes the state, so catching up late gives the same as acting in time.
"""

from __future__ import annotations

from .inventories import make_due_inventories
from .jobs import complete_due_jobs, expire_jobs
from .store import Store
from .uploads import expire_uploads


def settle(store: Store) -> None:
    """Do everything that is due at this moment, in a transaction of its own."""
    with store.transaction() as tx:
        make_due_inventories(tx)
        complete_due_jobs(tx)
        expire_jobs(tx)
        expire_uploads(tx)
