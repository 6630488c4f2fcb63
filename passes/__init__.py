"""Rewrites of graphs and the machinery that runs, checks and explains them."""
