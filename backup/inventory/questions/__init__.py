"""Queries for those who look: how things stand, what is in a snapshot, what changed, what it costs."""
