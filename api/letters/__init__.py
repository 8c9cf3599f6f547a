"""Letters to clients: what they say in each language, and how they leave."""
