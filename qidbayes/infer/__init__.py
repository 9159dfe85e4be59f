"""From a law and a table to a posterior: the PyMC model, the sampler, its diagnostics, and least squares."""
