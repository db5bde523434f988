"""Files written into a stream instead of a directory: one file, or a tree as a PAX tar.

`dump` is the run, `streaming` gives the content of files in their order from what the vault holds ready,
`tar` makes the members. No byte goes out that was not verified, and no disk is used on the way.
"""
