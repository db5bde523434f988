"""Checks and drills by a config: their contexts and quotes, and those that run by a schedule."""
