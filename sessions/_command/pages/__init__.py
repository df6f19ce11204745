"""Conversations as HTML pages, which ask nothing of anybody."""
