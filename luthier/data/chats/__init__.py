"""Chat logs: messages of several people, in threads."""
