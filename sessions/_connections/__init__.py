"""Where a connection comes from: a pool of ours, or the application."""
