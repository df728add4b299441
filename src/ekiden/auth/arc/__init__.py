"""The Authenticated Received Chain (RFC 8617): what each forwarder of a message found, sealed by it."""
