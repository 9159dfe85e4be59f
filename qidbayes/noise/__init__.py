"""How measurements scatter around a law: shared effects, a Gaussian process, heavier tails. Below fits and samplers."""
