"""The pages, a module for each: its query, its values, which the API shows as well, and its handler.

A handler takes a request, has a function make frozen values from one read transaction, and renders a template
with them. What pages share: `html.py` renders `templates/`, `parameters.py` checks what a request asks for,
`entries.py` has values of files and of their places. Jobs, snapshots, words and cursors (`after`: the
`next_after` of an earlier page) come unchecked, as text, and paths as bytes; the functions check them:
`BadParameterError` (400), `NotThereError` (404), which `guard/faults.py` turns into answers.
"""
