"""What a client needs of LDAP (RFC 4511) to bind and search: messages, filters, names, URLs."""
