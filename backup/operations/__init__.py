"""Runs as one thing: each kind is a class with a plan and steps, whoever begins it.

An `Operation` (`operation`) is made by its class in the file of its kind (`prune.Prune`) from a config and an
open inventory. `recorded.step` does one step of it: an attempt that fails, and one that is over, is a row
of the inventory; recovery lines are kept, and metrics written. The command repeats steps while it waits, the
daemon at its ticks; both show the report that a step returns. `backup/kinds.py` is the table of kinds.

Invariants: what a plan shows, a step does, under the same limits; a step that waits is continued by any
process, hours later. Begin with `operation.Operation`.
"""
