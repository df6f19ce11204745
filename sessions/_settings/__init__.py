"""What a caller asks for: URL, options and TLS, checked before anything is opened."""
