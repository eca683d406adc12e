"""The other end of a connection: sends a scan as the scanner would, and gathers what comes back."""
