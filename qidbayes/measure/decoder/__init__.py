"""A decoder's layers, what goes through them, and what is measured on the way."""
