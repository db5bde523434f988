"""One file for each command or group of commands; none imports another.

`backup.cli.COMMANDS` names them all, and imports the one that is used. What several share is in
`backup.cli.support`.
"""
