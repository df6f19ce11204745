"""Whether a database keeps the promises, found out by trying them."""
