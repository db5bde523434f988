"""Options and arguments of commands in several groups: snapshots, moments, retrievals, what is kept."""
