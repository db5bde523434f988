"""Searches a model whole: breadth first, every state once; the shortest way to a broken law is told.

    found = search(Nights(cast))
    assert not found.broken, found.text()

A state is kept as a 63-bit print of its encoding, with the print from which it was reached. So ten million
states fit into two gigabytes, and a way to one of them is found again by taking the steps once more. Two of
ten million states share a print with a probability of less than one in 100,000 (n² / 2⁶⁴).
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

W = TypeVar("W", bound=msgspec.Struct)

_ROOT = -1


class Step(NamedTuple, Generic[W]):
    """What may happen next: a sentence, the world after it, and the law that it breaks, if any."""

    story: str
    world: W
    broken: str = ""


class Model(Protocol[W]):
    """A world at its beginning, what may happen in a world, and which law a world breaks."""

    @property
    def initial(self) -> W:
        """The world at its beginning."""

    def steps(self, world: W) -> Iterator[Step[W]]:
        """Everything that may happen next."""

    def broken(self, world: W) -> str:
        """The law that does not hold in this world; empty if all do."""


class Found(NamedTuple):
    """The result: distinct states, steps taken, the length of the longest way; a broken law and its story."""

    states: int
    steps: int
    depth: int
    whole: bool
    broken: str = ""
    story: tuple[str, ...] = ()

    def text(self) -> str:
        """The story, a step a line, as a failing test prints it."""
        lines = [f"{number:3}. {line}" for number, line in enumerate(self.story, 1)]
        return "\n".join([f"after {len(lines)} steps: {self.broken}", *lines])


class Search(Generic[W]):
    """One search; `most` is the number of states after which it stops, unfinished."""

    def __init__(self, model: Model[W], most: int | None = None) -> None:
        self._model = model
        self._most = most
        self._type = type(model.initial)
        self._encode = msgspec.msgpack.Encoder().encode
        self._came_from: dict[int, int] = {}

    def run(self) -> Found:
        """Take all steps from all states; stops at the first law that is broken."""
        model, came_from, encode = self._model, self._came_from, self._encode
        decode = msgspec.msgpack.Decoder(self._type).decode
        first = encode(model.initial)
        came_from[_print(first)] = _ROOT
        level, depth, steps = [first], 0, 0
        broken = model.broken(model.initial)
        if broken:
            return Found(1, 0, 0, whole=False, broken=broken)
        while level:
            after: list[bytes] = []
            for encoded in level:
                here = _print(encoded)
                for step in model.steps(decode(encoded)):
                    steps += 1
                    told = encode(step.world)
                    there = _print(told)
                    is_new = there not in came_from
                    if is_new:
                        came_from[there] = here
                        after.append(told)
                    broken = step.broken or (model.broken(step.world) if is_new else "")
                    if broken:
                        story = (*self._way(here), step.story)
                        return Found(len(came_from), steps, depth + 1, False, broken, story)
                if self._most is not None and len(came_from) >= self._most:
                    return Found(len(came_from), steps, depth, whole=False)
            level = after
            depth += bool(level)
        return Found(len(came_from), steps, depth, whole=True)

    def _way(self, last: int) -> list[str]:
        """The steps from the beginning to a state."""
        prints = [last]
        while prints[-1] != _ROOT:
            prints.append(self._came_from[prints[-1]])
        world, story = self._model.initial, []
        for there in reversed(prints[:-2]):
            step = next(
                step for step in self._model.steps(world) if _print(self._encode(step.world)) == there
            )
            world = step.world
            story.append(step.story)
        return story


def search(model: Model[W], most: int | None = None) -> Found:
    """Search a model whole, or until `most` states were seen."""
    return Search(model, most).run()


def _print(encoded: bytes) -> int:
    return int.from_bytes(blake2b(encoded, digest_size=8).digest(), "little") >> 1
