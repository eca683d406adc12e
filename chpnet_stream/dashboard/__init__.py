"""What people and machines see of running scans: live view, metrics, summaries. Read only."""
