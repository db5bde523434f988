"""Queries for commands and pages that show something: status, a snapshot's content, changes, costs."""
