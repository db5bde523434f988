"""Notifications by a config: brings `notify` what it needs of config and status.

Begin with `record`, which makes messages as rows once a run has ended; `maker` says which, and what is in
them. `send` delivers what waits, by the `channels` of the config. `fallback` sends at once where the
inventory cannot be written.
"""
