"""Reads a job's sources: trees of files, walked in a stable order and never out of themselves, and streams.

The flow: `scan` lists directories by handles and applies `filters` (`patterns`); of many files in a worker
(`scanner`), which sends what it finds as columns (`scanned`) → the archiver compares the entries with its
last snapshot → changed files are read by `read` (`holes` for sparse ones) or by the batch (`small`, in the
workers of `reader`), with `attributes` and `flags`. `streams` are the sources that are not trees: commands
(`command`, `process_guard`), standard input, devices.

Invariants: no symlink below a source is followed; an entry that cannot be read is reported, never taken for
gone; a file that changes while it is read is noticed; entries changed within the clock's last tick are read
again (`freshness`). Begin with `scan.scan`.
"""
