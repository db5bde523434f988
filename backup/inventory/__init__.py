"""The inventory: the SQL database of snapshots, their entries, and the archives that hold the chunks.

The flow: `store` opens and migrates it and hands out transactions; every other module is queries by noun,
each a function whose first argument is a transaction: `content` of what is stored (`entries`, `snapshots`,
`archives`, `packed`, …), `records` of what is done (`runs`, `tasks`, `retrievals`, `readings`, …),
`questions` of those who look, `pages` for the web page, `rebuilt` for a rebuild.

Invariants: an entry's version is an interval of snapshots, so a snapshot is a query and costs no rows; what a
run stages is true only once its commit applied it; numbers (`numbers`) are given out once and never again;
chunks are looked up only in archives that are stored, or that the asking run submitted. `invariants` has the
complete list as queries. The vault alone can rebuild all of it (`rebuilt`).

Begin with `store/schema`, then `content/entries`.
"""
