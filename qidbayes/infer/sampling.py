"""How a posterior is drawn from: by NUTS, or, where few numbers are left, by proposals that need no derivatives."""

from qidbayes.infer.draws import Draws
from qidbayes.infer.inputs import Inputs
from qidbayes.infer.settings import Settings
from qidbayes.progress import Progress


def sample(rows: Inputs, settings: Settings, progress: Progress | None = None) -> Draws:
    """Sample the posterior of a law given its rows.

    Under a discrepancy the linear constants are integrated out, and chains propose from a mixture that follows what is
    left (`qidbayes.infer.independent`). Where that cannot be, or goes badly, NUTS draws all numbers of the PyMC model
    (`qidbayes.infer.nuts`).
    """
    from qidbayes.infer.collapsed import collapsed
    from qidbayes.infer.independent import sample as by_proposals

    target = collapsed(rows)
    found = by_proposals(rows, target, settings, progress) if target else None
    if found:
        return found
    from qidbayes.infer.nuts import sample as by_nuts  # imported here: PyMC and JAX take seconds

    return by_nuts(rows, settings, progress)
