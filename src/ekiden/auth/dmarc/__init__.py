"""DMARC (RFC 9989): whether a message may carry its author's domain, and what the owner of that domain asks for."""
