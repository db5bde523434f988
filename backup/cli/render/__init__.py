"""Output of commands: values as text, tables that fit the terminal, charts of bars, progress.

Text from outside reaches a terminal through `render.printable` only.
"""
