"""Authentication-Results (RFC 8601): written, read, and removed where a stranger writes in our name."""
