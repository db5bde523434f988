"""Beginning and beginning again: `init`, enrolment, rebuilds and their drills, vaults in place of others.

`keeping` makes the contexts of whoever deletes in place of servers: it rebuilds what it decides by.
"""
