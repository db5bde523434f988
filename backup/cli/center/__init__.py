"""The commands for many servers: the center, and telling it."""
