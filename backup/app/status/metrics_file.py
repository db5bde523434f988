"""Writes the metrics file, after each change of the inventory and on request.

`metrics.py` is imported only if the config names such a file, as the import takes as long as a small backup.
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
    """Write the metrics to a named file, or to a device such as /dev/stdout. `OSError`."""
    from backup.app.status.metrics import metrics_text

    write_durably(path, metrics_text(status).encode(), mode=_MODE, special=open_special(path))


@contextmanager
def metrics_after(config: Config, clock: Clock) -> Iterator[None]:
    """A context manager that writes the config's metrics file when the body has ended. Errors are logged."""
    try:
        yield
    finally:
        refresh_metrics(config, clock)


def refresh_metrics(config: Config, clock: Clock) -> None:
    """Write the config's metrics file, if there is one; errors are logged.

    A missing inventory is not logged: the command that needed it reports it.
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
    """Remove a metrics file that is no longer written, as its values would stay there for ever.

    Only a file that begins as those of `metrics.py` do is removed; errors are logged.
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
