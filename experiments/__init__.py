"""The studies, one short script each."""
