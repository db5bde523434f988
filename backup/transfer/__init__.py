"""Archives on their way up and down."""
