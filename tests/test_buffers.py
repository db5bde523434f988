"""Nobody's bytes change while somebody looks at them, and memory is used again as soon as nobody does."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from backup.buffers import Buffers

SIZES = (10, 64)


@given(st.lists(st.tuples(st.sampled_from(SIZES), st.integers(0, 5)), max_size=60))
def test_a_buffer_in_use_is_given_to_nobody(steps: list[tuple[int, int]]) -> None:
    """Some are looked at through a part, some through a view of a view; each step lets one go."""
    buffers, held, made = Buffers(), list[tuple[memoryview, bytes]](), set[int]()
    most = 0
    for number, (size, gone) in enumerate(steps):
        view = buffers.take(size)
        assert len(view) == size
        view[:] = bytes([number]) * size
        part = memoryview(view)[number % size :]
        held.append((part, bytes(part)))
        made.add(id(view.obj))
        most = max(most, len(held))
        del view, part
        assert all(bytes(view) == was for view, was in held)
        held[gone : gone + 1] = []
    assert len(made) <= most * len(SIZES)


def test_memory_is_used_again() -> None:
    buffers = Buffers()
    first = buffers.take(8)
    first[:] = b"whatever"
    other = buffers.take(8)
    assert other.obj is not first.obj
    was = id(first.obj)
    del first
    again = buffers.take(8)
    assert id(again.obj) == was
    assert len(again) == 8


def test_what_is_smaller_than_usual_is_part_of_a_usual_one() -> None:
    """So what was a frame becomes a window, and the other way round."""
    buffers = Buffers(usual=8)
    was = id(buffers.take(5).obj)
    for size in (8, 3):
        view = buffers.take(size)
        assert (id(view.obj), len(view)) == (was, size)
        del view
    large = buffers.take(9)
    assert (id(large.obj) != was, len(large)) == (True, 9)


def test_a_view_on_another_thread_counts() -> None:
    buffers, ready, done = Buffers(), threading.Event(), threading.Event()

    def look(view: memoryview) -> None:
        ready.set()
        done.wait(10)
        seen.append(bytes(view))

    seen: list[bytes] = []
    view = buffers.take(4)
    view[:] = b"mine"
    thread = threading.Thread(target=look, args=[view])
    thread.start()
    ready.wait(10)
    del view
    buffers.take(4)[:] = b"else"
    done.set()
    thread.join()
    assert seen == [b"mine"]


def test_what_is_forgotten_stays_as_long_as_it_is_looked_at() -> None:
    buffers = Buffers()
    view = buffers.take(4)
    view[:] = b"mine"
    buffers.clear()
    buffers.take(4)[:] = b"else"
    assert bytes(view) == b"mine"
