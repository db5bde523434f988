"""What a check or a drill by a config is given: its context, and quotes of samples."""
