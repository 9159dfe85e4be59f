"""What is to be measured: values and a reader of them, what it takes and how it is dealt out. Needs no torch."""
