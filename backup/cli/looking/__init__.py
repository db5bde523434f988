"""The commands that look at what is stored, such as `ls`, `find` and `stats`, with their screens."""
