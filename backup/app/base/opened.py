"""Opens the config's inventory, for commands that need nothing else of a run.

The owner of the state directory is checked first: with another user's keys and inventory in it, backups would
belong to that user.
"""

from __future__ import annotations

import os
from contextlib import suppress

from backup.config import Config
from backup.errors import StateDeniedError
from backup.inventory.store.database import Inventory, has_stopped_containers, open_inventory
from backup.owners import Hazard, foreign_link, hazard_of, user_named

_OF_AN_INSTALLATION = ("inventory.sqlite", os.path.join("keys", "signer"))


def opened(config: Config) -> Inventory:
    """Open the config's inventory. `NoInventoryError` (10) if there is none; see `require_own`, too.

    Containers that a run was killed before it could start them again are started.
    """
    require_own(config.state_dir)
    inventory = open_inventory(config.inventory_url, lock_directory=config.state_dir)
    if has_stopped_containers(inventory):
        from backup.containers.resting import start_left  # after a run was killed

        start_left(inventory)
    return inventory


def require_own(directory: str, *, writes: bool = False) -> None:
    """Refuse a state directory that others can change. `StateDeniedError`, with the command that corrects it.

    A symlink of root or the caller is followed, another user's is not. A directory without an installation
    must be the caller's. One with an installation of another user is that user's: root may use it, too, but
    for others only the system's own rights count, and nothing is made in it (`writes`).
    """
    hazard = None
    with suppress(OSError):  # what cannot be looked at cannot be opened, either
        hazard = foreign_link(directory)
        if hazard is None and os.path.isdir(directory):
            hazard = _hazard_of_directory(directory, writes=writes)
    if hazard is not None:
        raise StateDeniedError(
            f"the state directory {directory} is not used: {hazard.why}", advice=hazard.command
        )


def _hazard_of_directory(directory: str, *, writes: bool) -> Hazard | None:
    found, caller = os.stat(directory), os.geteuid()
    owner = user_named(found.st_uid)
    is_new = not any(os.path.lexists(os.path.join(directory, name)) for name in _OF_AN_INSTALLATION)
    if found.st_uid not in {0, caller} and writes and (is_new or caller != 0):
        what = "and holds no inventory yet" if is_new else "and so does the inventory in it"
        command = (
            f"run it as that user (sudo -u {owner} nightvault …), or make it yours: "
            f"chown {user_named(caller)} {directory}"
        )
        return Hazard(directory, f"it belongs to {owner}, {what}", command)
    return hazard_of(directory, found, owners=[found.st_uid])
