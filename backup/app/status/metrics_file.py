"""The file of metrics: written when something has ended that changes the inventory, and when asked for.

Only the config says whether there is one; what is in it (`metrics.py`) is imported where there is, since that
takes as long as a small backup.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from backup.config import Config
from backup.errors import NightvaultError, NoInventoryError
from backup.files import open_small, write_durably
from backup.protocols import Clock
from backup.safe_paths import held_folder, open_special

if TYPE_CHECKING:
    from backup.app.status.parts import Status

_BEGIN = b"# HELP nightvault_"
_MODE = 0o644  # node_exporter runs as a user of its own
_log = logging.getLogger(__name__)


def write_metrics(path: str, status: Status) -> None:
    """Write the metrics to a file that somebody named, or to a device such as /dev/stdout. `OSError`."""
    from backup.app.status.metrics import metrics_text

    write_durably(path, metrics_text(status).encode(), mode=_MODE, special=open_special(path))


@contextmanager
def metrics_after(config: Config, clock: Clock) -> Iterator[None]:
    """Write the metrics file of the config once the body has ended, however; what fails there is logged."""
    try:
        yield
    finally:
        refresh_metrics(config, clock)


def refresh_metrics(config: Config, clock: Clock) -> None:
    """Write the metrics file of the config, if it has one; what fails is logged.

    That there is no inventory is not: whatever needed it has said so.
    """
    path = config.monitoring.metrics_file
    if path is None:
        return
    from backup.app.status.metrics import metrics_text
    from backup.app.status.status import read_status

    try:
        _replace(path, metrics_text(read_status(config, clock.now())).encode())
    except NoInventoryError as error:
        _log.debug("the metrics were not written: %s", error)
    except NightvaultError as error:
        _log.warning("the metrics were not written: %s", error)
    except OSError as error:
        _log.warning("the metrics file %s cannot be written: %s", path, error.strerror)
    except Exception as error:  # noqa: BLE001  a backup that is done must not fail for its metrics
        _log.error("the metrics were not written: unexpected %s: %s", type(error).__name__, error)
        _log.debug("where it happened", exc_info=error)


def remove_metrics(path: str) -> None:
    """Remove a metrics file that is not written any more: its values would stand there for ever.

    Only one that begins as those of `metrics.py` do; what fails is logged.
    """
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return
        with open(path, "rb", opener=open_small) as file:
            is_ours = file.read(len(_BEGIN)) == _BEGIN
        if is_ours:
            os.unlink(path)
            _log.info("the metrics file %s is removed: the config does not name it any more", path)
    except FileNotFoundError:
        pass
    except OSError as error:
        _log.warning("the metrics file %s is not removed: %s", path, error.strerror)


def _replace(path: str, text: bytes) -> None:
    """Put a file in its place, which may lie in a directory that others write: what is no file is refused."""
    with held_folder(path) as (directory, name):
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                raise OSError(0, "something lies there that is no file")
        write_durably(name, text, mode=_MODE, dir_fd=directory)
