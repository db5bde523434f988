"""`init`, enrolment, rebuilds and their drills, and the acceptance of replaced vaults."""
