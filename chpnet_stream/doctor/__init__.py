"""What this machine can do: for `chpnet-stream doctor`."""
