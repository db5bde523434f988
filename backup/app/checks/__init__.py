"""Contexts of checks and drills by a config, and quotes of samples."""
