"""The commands about the program itself: `version` and `completion`."""
