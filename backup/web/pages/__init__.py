"""The pages for people: from a request through values of `web.views` to HTML.

One module for each page. `rendering.py` makes HTML of `templates/`, where everything is escaped by default
and a name that is missing is an error; `words.py` says values in words; `links.py` makes and reads addresses.
"""
