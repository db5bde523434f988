"""What a vault is asked for, hours before it is there.

`listing` asks for the vault's own list once and keeps it; `confirm` lets such a list confirm the archives
that a rebuild knows from catalogs alone.
"""
