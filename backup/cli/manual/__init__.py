"""Reference of the commands, made from the commands themselves: manual pages and pages of the documentation.

`pages` reads what click knows of every command into plain values; `roff` and `markdown` write them. The build
of the wheel makes the manual pages (`hatch_build.py`), `make reference` makes `docs/commands/`.
"""
