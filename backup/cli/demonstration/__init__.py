"""What `nightvault demo` shows, part by part."""
