"""What each database says: one folder a dialect, with the same files in each, and what they share."""
