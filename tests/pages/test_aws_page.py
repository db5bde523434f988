"""docs/aws.md and docs/certificates.md, run as they stand, on a machine and the emulator (defect 19)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages.machine import ACCOUNT, ADMIN_KEY, ADMIN_SECRET, Machine
from tests.pages.page import RUN, SHOWN, Block, blocks_of, script_of
from tests.support.emulated import REPOSITORY, RunningEmulator, StaticKey, write_accounts

pytestmark = pytest.mark.slow

PAGE = REPOSITORY / "docs" / "aws.md"
NEXT = REPOSITORY / "docs" / "certificates.md"
BY_HAND = {"By hand: the names", "By hand: the trust anchor", "By hand: the role", "By hand: the profile"}
EITHER = {
    "bucket": {"A bucket", "Made by the authority", "The command"},
    "vault": {"A Glacier vault", "With a key that never leaves the server", *BY_HAND},
}
SPEED = 20_000.0
PASSPHRASE = "correct horse battery"


def test_nothing_on_the_page_is_left_out() -> None:
    assert {block.language for block in blocks_of(PAGE)} == {RUN, SHOWN}
    sections = {block.section for block in blocks_of(PAGE)}
    assert set.union(*EITHER.values()) <= sections


def in_order(blocks: list[Block]) -> list[Block]:
    """The blocks as they are given: those of the appendix in place of the step that they stand for."""
    by_hand = [block for block in blocks if block.section in BY_HAND]
    others = [block for block in blocks if block.section not in BY_HAND]
    place = next(n for n, block in enumerate(others) if block.section == "5. The first night")
    return [*others[:place], *by_hand, *others[place:]]


@pytest.mark.parametrize("kind", EITHER)
def test_from_nothing_to_a_backup(tmp_path: Path, kind: str) -> None:
    """Defect 19: in order, in one shell, with each kind of vault and each way to a certificate."""
    other = set.union(*(sections for name, sections in EITHER.items() if name != kind))
    blocks = in_order(
        [
            block
            for block in (*blocks_of(PAGE), *blocks_of(NEXT))
            if block.section not in other and block.language == RUN
        ]
    )
    machine = Machine.create(tmp_path)
    machine.answers = {r"(?i)passphrase[^\n]*: ?$|(?i:repeat|again|confirm)[^\n]*: ?$": PASSPHRASE}
    accounts = write_accounts(
        tmp_path / "accounts.toml", account_id=ACCOUNT, keys=[StaticKey(ADMIN_KEY, ADMIN_SECRET)]
    )
    with RunningEmulator(tmp_path / "emulator", accounts, speed=SPEED) as emulator:
        machine.connect(emulator)
        ended = machine.run(script_of(blocks))
    assert ended.failures == [], ended.output
    assert "Traceback" not in ended.output
    assert "filled in by hand" not in ended.output
    assert (machine.place("/srv/restored") / "nginx" / "nginx.conf").read_text() == "events {}\n"
