"""Ways into the one tree of files (`browser/`) for other programs: a FUSE mount, and WebDAV.

Each is a process of its own that has the recovery key in memory alone; begin with `look`, what both answer.
"""
