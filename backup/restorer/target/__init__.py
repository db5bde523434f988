"""The directory that a restore writes into: looked at before, written below it and never beside it.

`directories` opens every path step by step and follows no symlink. `existing` compares what is there already,
`extraneous` lists what the snapshot does not have, `confirmed` keeps what was found, so that nothing is
judged anew hours later. `assemble` turns frames into files, `making` writes one under a temporary name
(`partial_files`) and renames it when every chunk was verified, `helper_process` does the same in a second
process for many small files, divided up by `sharing`. `metadata` and `owners` set what hangs on an inode.

Invariant: a file has its own name only when it is whole.
"""
