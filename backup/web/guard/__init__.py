"""Access to the page: accounts, sessions, tokens, the checks before a request is answered, and bounds.

`accounts` is the file of users; `users` the nouns; `passwords` and `throttle` guard a login; `gate` finds out
who asks; `headers`, `hosts`, `origins` and `bounds` are checks, each a layer around the application. Nothing
here knows a page.
"""
