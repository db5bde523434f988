"""The pages for people: from a request through values of `web.views` to HTML.

`PAGES`, in `routes.py`, are the routes. `html.py` makes HTML of `templates/`, where all is escaped by default
and a missing name is an error, and says values in words; `links.py` makes and reads addresses.
"""
