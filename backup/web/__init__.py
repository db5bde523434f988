"""The page: whether all is well, what happened, what snapshots hold. A process of its own that only reads.

`app.build` puts it together from a `WebContext`: `guard/` decides who may, and bounds what a request may
take; `views/` makes frozen values from one read transaction; `pages/` turns them into HTML, `api/` into JSON.
It has no key, reaches no vault, and asks the daemon for what its second socket offers. Nothing here deletes,
and nothing changes keys, hooks, config or policies.
"""
