"""The maintenance commands: checks, drills, forget, prune, tags and pins, locks, with their screens."""
