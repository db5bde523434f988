"""AWS set up for a config: what is needed, compared with what is there, shown, made, and taken away again.

`documents.py`, `given.py`, `model.py`, `diff.py`, `absorb.py`, `words.py` and `missing.py` are pure:
documents, the authority's files, what is wanted, steps from what was found, what a step leaves, how it is
shown, the statement that a denial lacks.
`look.py` and `old_places.py` find, `carry_out.py` does the steps, `calls.py` is the only one with boto3.
`wanted.py` reads the config, `config_file.py` writes ARNs into it.
"""
