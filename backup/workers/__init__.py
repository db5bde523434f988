"""Worker processes beside the main one: scanners, readers and makers, as Python uses one core at a time.

`Pool` (`pool`) starts workers as there is more to do, and goes on without those that cannot be started or
die. A `Worker` (`worker`) is one of them, seen from the first process; its class is in the package of the
work and defines its messages. `messages` are bytes and open files over a socket; large data goes through
memory that both share. `process` starts a program of ours isolated, and says how it ended.

Invariants: a worker gets open directories, never paths of the source or target; it ends with the first
process; it is there for speed alone, so if it dies there is only a warning. Begin with `worker.Worker`.
"""
