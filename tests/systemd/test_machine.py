"""A machine with systemd: installed, started, killed, rebooted, its clock set, uninstalled; and packages."""

from __future__ import annotations

import faulthandler
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.systemd import with_daemon, with_other_units, with_package
from tests.systemd.editions import what_is_missing_here
from tests.systemd.image import Image, NoImageError, prepared, what_is_missing
from tests.systemd.machine import Machine, booted
from tests.systemd.site import prepare

pytestmark = [pytest.mark.real, pytest.mark.slow]


@pytest.fixture
def image() -> Image:
    """The disk of a machine."""
    missing = what_is_missing()
    if missing:
        pytest.skip(missing)
    faulthandler.cancel_dump_traceback_later()  # making an image has limits of its own, and so has a machine
    try:
        return prepared()
    except NoImageError as error:
        pytest.skip(str(error))


@pytest.fixture
def machine(image: Image, tmp_path: Path) -> Iterator[Machine]:
    """A machine that was just booted, and has all that is to be installed on it."""
    prepare(image, tmp_path / "files", tmp_path / "scratch")
    with booted(image, tmp_path) as made:
        yield made


@pytest.fixture
def machine_with_packages(image: Image, tmp_path: Path) -> Iterator[Machine]:
    """The same, with packages of two commits."""
    if missing := what_is_missing_here():
        pytest.skip(missing)
    prepare(image, tmp_path / "files", tmp_path / "scratch")
    with_package.prepare(image, tmp_path / "files", tmp_path / "scratch")
    with booted(image, tmp_path) as made:
        yield made


def test_a_machine_with_systemd(machine: Machine) -> None:
    """One machine, which all of it happens to in turn: a boot takes longer than most of it."""
    _all_of((*with_daemon.CASES, *with_other_units.CASES), machine)


@pytest.mark.skipif(
    os.environ.get("NIGHTVAULT_TEST_PACKAGES") != "all",
    reason="takes eight minutes: with NIGHTVAULT_TEST_PACKAGES=all",
)
def test_a_package_on_a_machine(machine_with_packages: Machine) -> None:
    """Another one, on which the program is installed, upgraded amid a run, removed and purged by apt."""
    _all_of(with_package.CASES, machine_with_packages)


def _all_of(cases: Sequence[Callable[[Machine], None]], machine: Machine) -> None:
    for case in cases:
        began = time.monotonic()
        print(f"{case.__name__}: ", end="")
        case(machine)
        print(f"{time.monotonic() - began:.0f} s", flush=True)
