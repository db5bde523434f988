"""The parts of `nightvault demo`: begin with `story.py`, which tells the steps in order.

`ransomware.py` tells another story on the same `stage.py`, with an `intruder.py`.
`local_aws.py` runs the emulator, `scratch.py` makes and changes the copy that is backed up, and `compare.py`
compares the restored tree with it, without using any of the code that is demonstrated.
"""
