"""`init`, enrolment, rebuilds and their drills, and the acceptance of replaced vaults.

`keeping` makes the contexts of a keeper, which deletes in place of servers, by states that it rebuilds.
"""
