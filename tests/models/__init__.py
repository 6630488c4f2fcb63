"""Real models to test and measure with."""
