"""What the emulated services share: the store, the clock, the wire, accounts and policies.

Imports nothing of a service (`glacier`, `s3`, `rolesanywhere`); the services import it.
"""
