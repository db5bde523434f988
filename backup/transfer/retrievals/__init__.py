"""The one desk that asks a vault for what comes hours later: its list, and ranges of archives.

    plan      a token is drawn, and noted in a store: rows of the inventory, or a rebuild's journal
    ask       once by that token; a lost answer is found again by it and not paid twice (`once`)
    look      how far the vault is; it may not know yet what it has just accepted (`freshness`)
    keep      what came, before it may expire

Invariants: nothing is sent before it is noted; what the vault has taken is not asked for again while it may
still come; only the vault's firm word drops a request. Begin to read with `once`, then `freshness`, then
`listing`, which is the whole flow for one request; `confirm` lets a list confirm the archives that a rebuild
knows from catalogs alone.
"""
