"""DomainKeys Identified Mail: signatures by domains (RFC 6376)."""
