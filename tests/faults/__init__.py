"""What happens when an archive misbehaves."""
