"""The commands to try things out: `demo`, and `emulator`, a local AWS."""
