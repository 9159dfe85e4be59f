"""Draw each shipped law along the covariate it is about, for docs/laws.md: part of `make figures`."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from qidbayes.law import Law, law_names, load_law
from qidbayes.law.law import column_of
from qidbayes.posterior.constants import Curve, dimensions, raw_constants

PICTURE = Path(__file__).parents[1] / "docs" / "images" / "laws.png"
# What a law is asked along, and where it stands otherwise.
ALONG = {
    "bits": "P", "vanishing": "P", "ceiling": "P", "precision-ptq": "P", "size": "N", "qat": "group_size",
    "qat-split": "qat_tokens", "precision-training": "P", "float-training": "mantissa_bits", "capacity": "gaussian_mse",
    "task-stratified": "P",
}  # fmt: skip
RANGE = {
    "N": (1e8, 1e11), "D": (1e9, 1e13), "P": (2, 8), "group_size": (16, 1024), "qat_tokens": (1e8, 1e12),
    "mantissa_bits": (0, 7), "gaussian_mse": (1e-4, 0.4), "calibration_samples": (4, 1024),
}  # fmt: skip
AT = {
    "N": 1e9, "D": 1e11, "P": 4, "group_size": 128, "exponent_bits": 2, "mantissa_bits": 1, "fp_tokens": 1e11,
    "qat_tokens": 1e10, "bits_activation": 16, "bits_kv": 16, "calibration_samples": 128, "gaussian_mse": 0.0115,
    "decayed": 1,
}  # fmt: skip
_COLOURS = 64
NOT_DRAWN = ("joint",)  # unified with kaplan-16bit beside it


def constants(law: Law) -> tuple[Mapping[str, np.ndarray], Mapping[str, tuple[str, ...]], bool]:
    """Return a law's constants, the labels of their groups, and whether they are published."""
    complete = [point for point in law.published.values() if set(point) == set(law.constants)]
    if complete:
        point, dims = complete[0], dimensions(law)
        groups = {dims[n]: tuple(c) for n, c in point.items() if isinstance(c, Mapping)}
        values = {n: [list(c.values())] if isinstance(c, Mapping) else [c] for n, c in point.items()}
        return {n: np.array(v, dtype=float) for n, v in values.items()}, groups, True
    law = law.with_reference({"N": 1e9, "D": 1e11})
    rng, middle = np.random.default_rng(0), {}
    for name, prior in law.priors.items():
        value = np.median(prior.sample(4001, rng))
        middle[law.sampled_name(name)] = np.full((1, 1) if prior.by else 1, value)
    return middle | raw_constants(law, middle), dict.fromkeys(set(dimensions(law).values()), ("4",)), False


def draw(axes: plt.Axes, name: str) -> None:
    """Draw one law: a line for each group of its constants."""
    law = load_law(name)
    values, groups, published = constants(law)
    symbol = ALONG.get(name, "D")
    log = symbol not in ("P", "mantissa_bits")
    x = np.geomspace(*RANGE[symbol], 200) if log else np.linspace(*RANGE[symbol], 200)
    with np.errstate(divide="ignore"):
        logs = {c: np.log(x if c == symbol else np.full(200, float(AT[c]))) for c in law.covariates}
    curve = Curve(law, values, groups)
    for i, label in enumerate(next(iter(groups.values()), ("",))):
        y = np.exp(curve.log_response(logs, {dim: np.full(200, i) for dim in groups})[0])
        axes.plot(x, y, linestyle="-" if published else "--", label=f"{label} bits" if label and published else None)
    axes.set_yscale("log")
    axes.set_xscale("log" if log else "linear")
    others = (f"{c} = {AT[c]:.4g}" for c in law.covariates if c != symbol)
    axes.set_title(name, fontsize=10, loc="left")
    axes.set_xlabel(column_of(symbol), fontsize=8)
    axes.set_ylabel({"qid": "QiD", "loss": "loss", "loss_16bit": "16-bit loss"}[law.response], fontsize=8)
    axes.text(0.02, 0.02, "\n".join(others), transform=axes.transAxes, fontsize=6, va="bottom", color="0.4")
    axes.tick_params(labelsize=7, which="both")
    if len(axes.lines) > 1:
        axes.legend(fontsize=6, frameon=False)


def main() -> None:
    """Draw all in one picture."""
    names = [name for name in law_names() if name not in NOT_DRAWN]
    columns = 4
    figure, grid = plt.subplots(-(-len(names) // columns), columns, figsize=(12, 13), layout="constrained")
    for axes in grid.flat[len(names) :]:
        axes.set_axis_off()
    for axes, name in zip(grid.flat, names, strict=False):
        draw(axes, name)
    figure.suptitle(
        "Shipped laws, nats per token: published constants, or the middle of the priors (dashed)", fontsize=11
    )
    figure.savefig(PICTURE, dpi=110)
    Image.open(PICTURE).convert("RGB").quantize(_COLOURS).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
