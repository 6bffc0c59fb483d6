"""One trial, pure: state in, state out."""
