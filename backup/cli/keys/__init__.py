"""The commands for keys, certificates and AWS, and those that serve AWS keys to other programs."""
