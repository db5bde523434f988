"""Sets up AWS for a config: compares what is needed with what is there, shows it, makes it, and removes it.

`documents.py`, `ca_input.py`, `model.py`, `diff.py`, `describe.py` and `export.py` are pure: documents, the
authority's files, what is wanted, steps from what was found, how they are shown, the same as code for other
tools. `wanted.py` reads the config, `config_file.py` writes ARNs into it. `look.py` finds, `carry_out.py`
does the steps and looks again, `calls.py` is the only one with boto3.
"""
