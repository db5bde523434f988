"""What every wing here needs: the state, the inventory, vaults with their credentials, the clock.

`opened` opens the inventory, `folders` are the paths of the state directory, `state` reads the keys in it,
`vaults` makes a vault with the credentials that its config names; `silent_mounts` asks disks that may never
answer.
"""
