"""The commands of every day, such as `backup`, `status` and `daemon`, with the screens that only they use."""
