"""The entries of a snapshot that a restore writes, and where each of their chunks lies.

`choice` is what the user asked for, kept with the restore; `select` reads the inventory by it. A million
files must fit into little memory: entries (`entry`, `columns`), files with their chunks (`files`), the places
of chunks (`chunk_locations`) and the files that use each chunk (`chunk_users`) are columns of packed numbers,
and a value is made when one is asked for.
"""
