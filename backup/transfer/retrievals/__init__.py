"""The one client that asks a vault for what comes hours later: ranges of archives, and its own list.

    plan      a token is drawn and noted; of what is planned, a round takes what fits (`rounds`)
    ask       each once by its token, concurrently, until an error shows that others would fail, too (`ask`)
    look      how far the vault is, and what follows: wait, fetch, ask again, give up (`look`)
    keep      what came, before it may expire

Restores, checks and rebuilds bring a store (`client.RetrievalStore`, `listing.ListingStore`: rows of the
inventory, or a rebuild's journal) and keep only what is their own: what a range is for, and what a refusal
says of it. Stages are words of the database (`inventory/stages`).

Invariants: nothing is sent before it is noted; a request whose answer was lost is found again by its token
and not paid twice (`once`); a vault that says that it does not know a request it has just accepted is not
believed (`freshness`); every answer is recorded before one is raised.

Begin to read with `client`, then `ask` and `look`. `listing` is the same flow for the one list, `sharing`
lets one restore use what another asked for, `confirm` lets a list confirm the archives that a rebuild knows
from catalogs alone.
"""
