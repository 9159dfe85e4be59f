"""How far training and rounding move weights: a plan in, a table of drift out."""
