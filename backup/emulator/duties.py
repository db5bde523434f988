"""The work of all services as time passes: jobs end, inventories are made, old things are deleted."""

from __future__ import annotations

from backup.emulator.core.state.store import Duties
from backup.emulator.glacier.inventories import make_due_inventories, next_inventory_ms
from backup.emulator.glacier.jobs import complete_due_jobs, expire_jobs, next_end_ms
from backup.emulator.glacier.uploads import expire_uploads
from backup.emulator.s3.objects.lifecycle import apply_lifecycles
from backup.emulator.s3.uploads.multipart import forget_completed

DUTIES = Duties(
    next_ms=(next_end_ms, next_inventory_ms),
    when_due=(make_due_inventories, complete_due_jobs),
    at_times=(expire_jobs, expire_uploads, apply_lifecycles, forget_completed),
)
