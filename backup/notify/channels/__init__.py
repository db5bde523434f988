"""Channels, one for each kind of receiver; `http` is what all but mail share.

Each channel reads its `secrets` at the moment it sends, so that a new password needs no restart; `deadline`
ends a delivery that takes too long. Errors are raised without their cause: the libraries' own errors hold
addresses, and an address may be the secret.
"""
