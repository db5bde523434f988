"""The emulated IAM Roles Anywhere: CreateSession, from a signed request to temporary keys."""
