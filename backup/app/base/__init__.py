"""The common basis of this package: state, inventory, vaults with their credentials, clock.

`opened` opens the inventory, `folders` are the paths of the state directory, `state` reads the keys in it,
`vaults` makes a vault with the credentials that its config names; `run_context` is what runs of any vault are
given; `silent_mounts` finds mounts that do not answer.
"""
