"""The command `agent-sessions`, a user of the library like any other."""
