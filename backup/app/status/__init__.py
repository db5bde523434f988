"""How things stand: what `status` tells, from inventory, config and locks; its concerns; the same as metrics.

Begin with `status`; `recorded` is what needs neither key nor lock, which the page reads; `parts` has the
values that it is made of, `concerns` what an admin should look at.
`verified` is what was ever read back of a job, `unusual` what stands out in its last night.
"""
