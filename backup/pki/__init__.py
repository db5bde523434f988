"""A small certificate authority: what people do by hand with openssl. Only the CLI may import it."""
