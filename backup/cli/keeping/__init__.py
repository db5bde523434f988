"""The commands that keep house: checks, drills, forgetting, pruning, marks, locks, with their screens."""
