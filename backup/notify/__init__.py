"""Notifications: which messages are sent (`decide`), what they say (`letter`), and their delivery (`outbox`).

Four kinds of message and no more: a run failed; the first success after that; a job is overdue; something
that will fail. For a state that lasts, a message is sent once a day. A message is a row before it is sent
(`outbox`), so that neither a crash nor days without network lose one; each channel (`channels/`) is tried
until its receiver has answered. `start_pings` tells monitors that a backup has begun.

Nothing here reads a config or the state of this machine: `app/telling` brings both.
"""
