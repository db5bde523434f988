"""The commands about the program itself: its version, and completion in a shell."""
