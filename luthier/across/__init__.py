"""Several runs put side by side: what differs between them, and whose arms are better."""
