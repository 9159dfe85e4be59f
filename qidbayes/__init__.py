"""Declarative, Bayesian scaling laws for what low-bit quantization costs a language model."""
