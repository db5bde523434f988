"""A renewal cut at every step, and killed by chance: what is in use always is a pair that works."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from backup.app.base.vaults import identity_files
from backup.app.machine import renewal
from backup.app.machine.renewal import RenewalState
from backup.credentials import pairs
from backup.credentials.identity import load_identity
from backup.credentials.pairs import Pairs
from backup.errors import IdentityError
from tests.support import campaigns
from tests.support.renewals import RenewalSite, renewal_site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[RenewalSite]:
    with renewal_site(tmp_path) as made:
        yield made


def due(site: RenewalSite) -> None:
    site.clock.sleep(4 * 86_400)


class Cut(BaseException):
    """The process ends here."""


def is_cut(site: RenewalSite, monkeypatch: pytest.MonkeyPatch, at: int) -> bool:
    """Renew, cut at the step of that number; whether there were so many steps."""
    left = [at]

    def wrapped(real: Callable[..., object]) -> Callable[..., object]:
        def step(*words: object, **options: object) -> object:
            left[0] -= 1
            if left[0] < 0:  # nothing happens any more
                raise Cut
            return real(*words, **options)

        return step

    steps: Sequence[tuple[Any, str]] = (
        *((pairs, name) for name in ("create_durably", "write_durably", "sync_directory")),
        (renewal, "write_durably"),
        (os, "mkdir"),
        (os, "unlink"),
        (shutil, "rmtree"),
    )
    with monkeypatch.context() as patch, suppress(Cut):
        for module, name in steps:
            patch.setattr(module, name, wrapped(getattr(module, name)))
        assert site.tick().state is RenewalState.RENEWED
    return left[0] < 0


def test_a_cut_at_every_step_leaves_a_pair_that_works(
    site: RenewalSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):  # two pairs are there, so that the next swap removes one
        due(site)
        site.tick()
    step = 0
    while True:
        due(site)
        before = site.certificate()
        cut = is_cut(site, monkeypatch, step)
        after = site.certificate()  # fits its key, or `load_identity` says so
        assert site.night()
        if not cut:
            break
        renewed = site.tick().state is RenewalState.RENEWED
        assert renewed or after != before
        assert site.night()
        step += 1
    assert step >= 9
    assert len(list(Path(Pairs.below(site.config.state_dir).directory).glob("[0-9]*"))) == 2


KILLED = """
import sys
from pathlib import Path
from backup.credentials.pairs import Pairs
pairs, pem, key = Pairs(sys.argv[1]), Path(sys.argv[2]).read_bytes(), Path(sys.argv[3]).read_bytes()
print("begun", flush=True)
while True:
    pairs.use(pairs.stage(pem, key), "x")
"""


@pytest.mark.slow
def test_readers_never_see_half_a_pair_while_a_process_swaps_and_is_killed(
    site: RenewalSite, tmp_path: Path
) -> None:
    """Real kills, at moments of chance, and a reader all the while."""
    site.reconfigure("files = true")
    site.tick()
    directory = Pairs.below(site.config.state_dir).directory
    parts = [(tmp_path / f"{name}.pem", tmp_path / f"{name}.key") for name in ("one", "two")]
    for pem, key in parts:
        site.issue()
        for kind, path in (("pem", pem), ("key", key)):
            shutil.copy(site.folder / "etc" / f"web1.{kind}", path)
    stop = threading.Event()
    read = [0]

    def look() -> None:
        while not stop.is_set():
            before = number_in_use()
            try:
                site.certificate()
            except IdentityError:  # a pair stays for one swap more; this machine stood still for two
                assert number_in_use() > before + 1
            else:
                read[0] += 1

    def number_in_use() -> int:
        used = Pairs(directory).in_use()
        assert used is not None
        return used.pair

    failures: list[BaseException] = []
    thread = threading.Thread(target=lambda: _keep(look, failures))
    thread.start()
    for number in range(campaigns.share("NIGHTVAULT_TEST_KILLS", 8)):
        pem, key = parts[number % 2]
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, directory, str(pem), str(key)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        process.stdout.readline()
        stop.wait(0.02 + 0.013 * number)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    stop.set()
    thread.join()
    assert failures == []
    assert read[0] > 10
    assert site.certificate() == load_identity(identity_files(site.config)).certificate


def _keep(look: Callable[[], None], failures: list[BaseException]) -> None:
    try:
        look()
    except BaseException as error:
        failures.append(error)


def test_a_reader_that_two_swaps_overtake_takes_the_newest(
    site: RenewalSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Pairs(str(tmp_path / "pairs"))
    for _ in range(3):
        found.use(found.stage(b"a certificate", None), "x")
    seen, real = [pairs.InUse(1, "x")], Pairs.in_use
    monkeypatch.setattr(Pairs, "in_use", lambda self: seen.pop() if seen else real(self))
    configured = identity_files(site.config)
    assert found.chosen(configured, follows=True) == found.files(configured, 3)
