"""How well a law predicts what it was not fitted to: backtests, comparison, stacking."""
