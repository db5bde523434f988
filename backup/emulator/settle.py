"""What the passing of time does, caught up with before each request: jobs end, inventories are made, old
things go.

Between two requests nothing else changes the state, so catching up late gives the same as acting in time.
"""

from __future__ import annotations

from .inventories import make_due_inventories
from .jobs import complete_due_jobs, expire_jobs
from .s3.lifecycle import apply_lifecycles
from .s3.multipart import forget_completed
from .store import Store, Transaction
from .uploads import expire_uploads

SWEEP_MS = 1000  # what is old is looked for after each step of the clock, else once a real second


def settle(store: Store, tx: Transaction) -> None:
    """Do everything that is due at the moment of this transaction."""
    make_due_inventories(tx)
    complete_due_jobs(tx)
    last = store.swept
    if tx.moment.stepped_ms != last.stepped_ms or tx.moment.real_ms - last.real_ms >= SWEEP_MS:
        expire_jobs(tx)
        expire_uploads(tx)
        apply_lifecycles(tx)
        forget_completed(tx)
        store.swept = tx.moment
