"""What a plan would measure, cell by cell, and what each cell would take: for choosing among them."""

import polars as pl

from qidbayes.measure.plan.cost import seconds_of_cell, seconds_of_checkpoint
from qidbayes.measure.plan.plan import Plan


def planned_cells(plan: Plan) -> pl.DataFrame:
    """Return the quantizations of a plan's checkpoints, a row for each evaluation set.

    Returns
    -------
    polars.DataFrame
        ``suite``, ``model``, ``revision``, ``n_params``, ``tokens``, ``learning_rate``, ``method``, ``bits``,
        ``group_size``, ``dataset``; ``cell_seconds``: what quantizing and evaluating takes on one H200, for all sets
        together, and ``checkpoint_seconds``: what its checkpoint takes before, loaded and evaluated in 16 bits.

    Examples
    --------
    >>> from qidbayes.measure import load_plan
    >>> from qidbayes.resources import shipped
    >>> planned_cells(load_plan(shipped("measurements") / "tiny" / "plan.toml")).height
    84
    """
    return pl.DataFrame(
        [
            {
                "suite": plan.suite,
                "model": checkpoint.model,
                "revision": checkpoint.revision,
                "n_params": float(checkpoint.n_params),
                "tokens": float(checkpoint.tokens),
                "learning_rate": checkpoint.learning_rate,
                "method": quantization.name,
                "bits": float(quantization.bits),
                "group_size": quantization.group_size,
                "dataset": texts.name,
                "cell_seconds": seconds_of_cell(plan, checkpoint, quantization),
                "checkpoint_seconds": seconds_of_checkpoint(plan, checkpoint),
            }
            for checkpoint in plan.checkpoints
            for quantization in plan.quantizations_of(checkpoint)
            for texts in plan.evaluation.datasets
        ],
        schema_overrides={"group_size": pl.Float64, "learning_rate": pl.Float64},
        infer_schema_length=None,
    )
