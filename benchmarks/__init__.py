"""Comparisons with other libraries, each in one run on one machine."""
