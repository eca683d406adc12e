"""A scan over a connection: read on one thread, reconstructed and sent on another."""
