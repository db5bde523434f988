"""Objects that are not put in one request: `multipart.py` is uploads in parts, `complete.py` makes one
object of them, `copying.py` makes objects and parts from objects that are there.
"""
