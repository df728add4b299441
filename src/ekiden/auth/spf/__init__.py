"""Sender Policy Framework (RFC 7208): may this client send mail in the name of this domain?"""
