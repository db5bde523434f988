"""The status of this server, from inventory, config and locks; its concerns; the same as metrics.

Begin with `status`; `recorded` is what needs neither key nor lock, which the page reads; `parts` has the
values that it is made of, `concerns` what an admin should look at. `verified` says how much of a job was ever
read back, `unusual` what stands out in its last backup.
"""
