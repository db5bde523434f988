"""What is shown: values in words, tables that fit the terminal, bars, progress.

Text from outside reaches a terminal through `render.printable` only.
"""
