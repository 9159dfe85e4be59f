"""The PyMC model's log density as a JAX function of parameters *and data*.

`pm.sample` bakes the data into the compiled function and so compiles at every call. Here every `pm.Data` becomes an
argument, and one compiled program serves all data of the same shapes.
"""

from collections.abc import Callable, Sequence

import jax
import pymc as pm
from pymc.logprob.utils import CheckParameterValue
from pytensor.compile import SharedVariable
from pytensor.compile.mode import JAX
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.replace import clone_replace
from pytensor.graph.traversal import graph_inputs
from pytensor.link.jax.dispatch import jax_funcify

type LogDensity = Callable[[Sequence[jax.Array], Sequence[jax.Array]], jax.Array]


def log_density(model: pm.Model) -> tuple[LogDensity, list[str]]:
    """Return the model's log density on the unconstrained space, and the names of the data it takes.

    Returns
    -------
    function
        ``f(values, data)``, with one array for each of ``model.value_vars`` and one for each data name.
    list of str
        The data names, in the order the function takes them.
    """
    output = model.logp()
    shared = [v for v in graph_inputs([output]) if isinstance(v, SharedVariable)]
    arguments = {v: v.type(name=v.name) for v in shared}
    graph = FunctionGraph(
        inputs=[*model.value_vars, *arguments.values()],
        outputs=clone_replace([output], replace=arguments),
        clone=True,
    )
    # Without it parameters by group would have shapes that JAX cannot trace. Specialising is XLA's work, and takes
    # minutes on a graph of matrices.
    JAX.excluding("specialize", "uncanonicalize").optimizer.rewrite(graph)
    # A transformed parameter cannot leave its support, so checks have nothing to find; JAX could not raise anyway.
    checks = [node for node in graph.toposort() if isinstance(node.op, CheckParameterValue)]
    graph.replace_all([(node.outputs[0], node.inputs[0]) for node in checks])
    function = jax_funcify(graph)
    # Jitted by itself, so that a sampler which calls it several times has it traced once.
    return jax.jit(lambda values, data: function(*values, *data)[0]), [v.name for v in shared]
