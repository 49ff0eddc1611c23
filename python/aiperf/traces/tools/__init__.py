"""What `aiperf trace` does: statistics, cutting, synthesis, validation, hashing. Nothing here sends a request."""
