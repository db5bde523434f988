"""Writes files to a stream instead of a directory: one file as it is, or a tree as a PAX tar.

The flow: `dump` walks the plan in the order of paths → `streaming` fetches and opens the frames of each file
in order → `tar` formats members → the sink (standard output).

Invariants: no byte goes out before it was verified, no disk is used, and a damaged file is left out of a
tar or ends the stream, but never goes out with a gap. Begin with `dump.dump`.
"""
