"""Options and arguments that several groups share: snapshots, times, retrievals, policies."""
