"""What the studies show: a module a study, beside the one that says what it trains."""
