"""The commands that bring something back: `restore`, `dump`, `restores`, `rebuild`, with their screens."""
