"""What goes into a measurement: checkpoints, tokenizers and windows of text, and the digests of all of them."""
