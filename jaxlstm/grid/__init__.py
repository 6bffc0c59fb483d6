"""Many trials: planned as groups of lanes, run as few compiled programs."""
