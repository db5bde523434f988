"""Forgetting and marking by a config, undoing them, undeleting; the contexts of a keeper."""
