"""How it looks: the lifecycle and one case's path, as Mermaid, DOT and SVG. Functions from data to text."""
