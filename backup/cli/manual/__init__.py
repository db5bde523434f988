"""The reference of all commands, generated from their help: manual pages and `docs/commands/`.

`pages` reads every command from click into plain values; `roff` and `markdown` write them. The build
of the wheel makes the manual pages (`hatch_build.py`), `make reference` makes `docs/commands/`.
"""
