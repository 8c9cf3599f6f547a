"""Measures what Casework claims about speed: whole processes over HTTP, compared side by side in one run."""
