"""Where archives are kept: a directory, or Amazon Glacier; each keeps the promises of `protocols.Vault`."""
