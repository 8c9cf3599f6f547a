"""The pages: forms and lists for people, over the same commands and queries as the API."""
