"""From acquisitions to complete slices of k-space."""
