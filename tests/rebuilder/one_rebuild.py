"""A rebuild in a process of its own: `python -m tests.rebuilder.one_rebuild STATE VAULT FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from backup.model import VaultName
from backup.vault.directory import DirectoryVault
from tests.support.backups import Site
from tests.support.doubles import ManualClock
from tests.support.rebuilds import Bare


def main() -> None:
    """Rebuild what the site in STATE stored, into FOLDER."""
    state, vault, folder = map(Path, sys.argv[1:4])
    clock = ManualClock()
    disk = DirectoryVault(VaultName("disk"), str(vault), clock)
    site = Site.attach(state, disk, [], clock=clock)
    site.close()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    Bare(folder, disk, site).rebuild()


if __name__ == "__main__":
    main()
