"""The HTML pages: a handler takes a request, gets values from `web.views`, and renders a template.

`PAGES`, in `routes.py`, are the routes. `html.py` renders `templates/`, which escape everything by default
and fail on a missing name, and formats values; `links.py` makes and parses URLs.
"""
