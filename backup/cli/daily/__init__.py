"""The commands of daily use, such as `backup`, `status` and `daemon`, and the screens that only they use."""
