"""Values kept with an open restore have the bytes that 0.1.0 gave them, whatever their fields are called."""

from __future__ import annotations

import msgspec

from backup.format.rows import pack_u64
from backup.restorer.selection.choice import Choice, Output, Overwrite
from backup.restorer.writer.confirmed import NOTHING, Confirmed


def test_the_confirmed_comparison_keeps_its_bytes() -> None:
    stored = msgspec.msgpack.encode({"kept": pack_u64([1, 2]), "replaced": 3, "surplus": [b"a/b"]})
    confirmed = Confirmed(frozenset({1, 2}), 3, (b"a/b",))
    assert Confirmed.decode(stored) == confirmed
    assert confirmed.encode() == stored
    whole = Confirmed(frozenset({7}), 1, (b"a/b", b"a"), (b"a",), pack_u64([1, 2, 3, 1, 2, 4]))
    assert Confirmed.decode(whole.encode()) == whole
    assert Confirmed.decode(b"") == NOTHING, "a restore that an older version began without one"


def test_a_choice_keeps_its_bytes() -> None:
    stored = msgspec.msgpack.encode({"overwrite": "never", "output": "tar", "globs": ["/etc/*"]})
    choice = Choice(globs=("/etc/*",), overwrite=Overwrite.NEVER, output=Output.TAR)
    assert Choice.decode(stored) == choice
    assert Choice.decode(choice.encode()) == choice
    assert Choice().encode() == msgspec.msgpack.encode({})
