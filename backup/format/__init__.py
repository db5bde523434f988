"""The stored formats: pure, bytes in and bytes out; docs/format.md specifies them.

The flow of a pack: `chunker` cuts → `naming` names chunks by keyed hash → `frame` compresses and seals →
`header`, `pack` and `rows` surround the frames with a signed header, a sealed directory and a trailer. A
catalog is a pack whose frames hold `catalog`'s stream of `records`. `keys` (as text: `text`, `passphrase`)
are what everything is sealed and signed with; `line` is the recovery line; `treehash` and `crc64` are the
vaults' checksums.

Invariants: what was written once stays readable for decades, so the golden vectors and the second reader
(tests/format/test_by_hand.py) never change; nothing is trusted before its signature or digest was checked; no
module here reads a clock, a disk or the network. Begin with docs/format.md, then `header`.
"""
