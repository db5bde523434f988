"""A local AWS: the Glacier vault service and IAM Roles Anywhere on loopback, written from AWS's documents
alone.

Nothing else of this project is imported here, so that a mistake in our own tree hash, signer or certificate
code cannot agree with itself.
"""
