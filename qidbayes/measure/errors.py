"""What goes wrong while measuring through no mistake of the user's."""


class MeasureError(RuntimeError):
    """A checkpoint that cannot be quantized or evaluated: not-finite activations, a matrix that cannot be factorized.

    The message names the layer or the step. A run records it in the cell's row and goes on.
    """
