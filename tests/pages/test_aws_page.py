"""docs/aws.md and docs/certificates.md, run as they stand, on a machine and the emulator."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

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
APPLY = "nightvault setup aws --apply --ca ca/anchor.pem"
LATER = {
    f"{APPLY} --yes\n": "By hand: another root",
    f"{APPLY} --crl ca/crl-2.pem --yes\n": "By hand: a revocation list",
}
"""Commands of the pages, and the section that is in their place where the set-up was by hand."""

SPEED = 20_000.0
PASSPHRASE = "correct horse battery"


def test_nothing_on_the_page_is_left_out() -> None:
    assert {block.language for block in blocks_of(PAGE)} == {RUN, SHOWN}
    sections = {block.section for block in blocks_of(PAGE)}
    assert set.union(*EITHER.values()) | set(LATER.values()) <= sections
    assert all(any(command in block.text for block in blocks_of(NEXT)) for command in LATER)


def in_order(blocks: list[Block]) -> list[Block]:
    """The blocks as they are given: those of the appendix in place of the step that they stand for."""
    by_hand = [block for block in blocks if block.section in BY_HAND]
    others = [block for block in blocks if block.section not in BY_HAND]
    later = {block.section: block.text for block in others if block.section in LATER.values()}
    others = [block for block in others if block.section not in later]
    if by_hand:
        others = [replace(block, text=_by_hand(block.text, later)) for block in others]
    place = next(n for n, block in enumerate(others) if block.section == "5. The first night")
    return [*others[:place], *by_hand, *others[place:]]


def _by_hand(text: str, later: Mapping[str, str]) -> str:
    for command, section in LATER.items():
        text = text.replace(command, later[section])
    return text


@pytest.mark.parametrize("kind", ["bucket", pytest.param("vault", marks=pytest.mark.real)])
def test_from_nothing_to_a_backup(tmp_path: Path, kind: str) -> None:
    """In order, in one shell, with each kind of vault and each way to a certificate."""
    other = set.union(*(sections for name, sections in EITHER.items() if name != kind))
    blocks = in_order(
        [
            block
            for block in (*blocks_of(PAGE), *blocks_of(NEXT))
            if block.section not in other and block.language == RUN
        ]
    )
    machine = Machine.create(tmp_path)
    machine.use_forks()
    machine.answers = {
        r"\[y/N\]: ?$": "y",
        r"(?i)passphrase[^\n]*: ?$|(?i:repeat|again|confirm)[^\n]*: ?$": PASSPHRASE,
    }
    accounts = write_accounts(
        tmp_path / "accounts.toml", account_id=ACCOUNT, keys=[StaticKey(ADMIN_KEY, ADMIN_SECRET)]
    )
    with RunningEmulator(tmp_path / "emulator", accounts, speed=SPEED) as emulator:
        machine.connect(emulator)
        if kind == "vault":  # by hand: with the AWS CLI itself, its pager and all
            machine.use_debians_aws()
        ended = machine.run(script_of(blocks))
    assert ended.failures == [], ended.output
    assert "Traceback" not in ended.output
    assert "filled in by hand" not in ended.output
    assert (machine.place("/srv/restored") / "nginx" / "nginx.conf").read_text() == "events {}\n"
