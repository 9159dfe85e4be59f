"""What goes wrong while measuring through no mistake of the user's."""


class MeasureError(RuntimeError):
    """A checkpoint that cannot be quantized or evaluated: not-finite activations, a matrix that cannot be factorized.

    The message names the layer or the step. A run records it in the cell's row and goes on.
    """


def miscounted(checkpoint: object, found: int, planned: int) -> str:
    """Say that a checkpoint's files have another number of parameters than the plan."""
    return (
        f"{checkpoint}: {found:,} non-embedding parameters in its files, n_params = {planned:,} in the plan; "
        f"give n_params = {found}, or another model"
    )


def copied(checkpoint: object, other: object) -> str:
    """Say that two checkpoints, which the plan puts at different training tokens, are one file."""
    return f"{checkpoint} holds the same weights as {other}: they cannot both be right"
