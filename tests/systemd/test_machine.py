"""A machine with systemd: installed, started, killed, restarted, rebooted, its clock set, and uninstalled."""

from __future__ import annotations

import faulthandler
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.systemd import with_daemon, with_other_units
from tests.systemd.image import NoImageError, prepared, what_is_missing
from tests.systemd.machine import Machine, booted
from tests.systemd.site import prepare

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A machine that was just booted, and has all that is to be installed on it."""
    missing = what_is_missing()
    if missing:
        pytest.skip(missing)
    faulthandler.cancel_dump_traceback_later()  # making an image has limits of its own, and so has a machine
    try:
        image = prepared()
    except NoImageError as error:
        pytest.skip(str(error))
    prepare(image, tmp_path / "files", tmp_path / "scratch")
    with booted(image, tmp_path) as made:
        yield made


def test_a_machine_with_systemd(machine: Machine) -> None:
    """One machine, which all of it happens to in turn: a boot takes longer than most of it."""
    for case in (*with_daemon.CASES, *with_other_units.CASES):
        began = time.monotonic()
        print(f"{case.__name__}: ", end="")
        case(machine)
        print(f"{time.monotonic() - began:.0f} s", flush=True)
