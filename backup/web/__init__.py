"""The web page: status, runs, and the contents of snapshots. A separate process that only reads.

`app.build` puts it together from a `WebContext`: `guard/` controls access, limits the size and time of
requests, and answers errors; `pages/` makes frozen values from one read transaction, and HTML of them;
`api/` makes JSON of them. The process has no key and reaches no vault; it can only ask the daemon for the
verbs of its second socket. Nothing here deletes, and nothing changes keys, hooks, config or policies.
"""
