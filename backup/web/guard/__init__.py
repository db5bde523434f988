"""Access to the page: accounts, sessions, tokens, checks of every request, and its limits.

`accounts` is the file of accounts; `users` has the types; `passwords` and `throttle` protect the login;
`gate` authenticates requests; `headers`, `origins` and `bounds` are further checks, each a middleware.
Nothing here imports a page.
"""
