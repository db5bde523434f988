"""The commands that restore: `restore`, `dump`, `restores`, `rebuild`, with their screens."""
