"""What may happen to a case: states, transitions, guards, policy, roles; commands in, events out. Pure."""
