"""Backups by a config: begin with `runs`, where `run_job` is a whole backup in one screen."""
