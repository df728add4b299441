"""What connections of all kinds share, whoever speaks through them."""
