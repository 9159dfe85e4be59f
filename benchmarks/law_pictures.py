"""Draw each shipped law along the covariate it is about, for docs/laws.md: part of `make figures`."""

import textwrap
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from PIL import Image

from qidbayes.law import Law, law_names, load_law
from qidbayes.law.law import column_of
from qidbayes.plots import style
from qidbayes.plots.save import save
from qidbayes.posterior.constants import Curve, dimensions, raw_constants
from qidbayes.units import format_count

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


def draw(axes: Axes, name: str) -> None:
    """Draw one law: a line for each group of its constants, unless groups do not differ."""
    law = load_law(name)
    values, groups, published = constants(law)
    symbol = ALONG.get(name, "D")
    log = symbol not in ("P", "mantissa_bits")
    x = np.geomspace(*RANGE[symbol], 200) if log else np.linspace(*RANGE[symbol], 200)
    with np.errstate(divide="ignore"):
        logs = {c: np.log(x if c == symbol else np.full(200, float(AT[c]))) for c in law.covariates}
    curve = Curve(law, values, groups)
    labels = next(iter(groups.values()), ("",))
    curves = [curve.log_response(logs, {dim: np.full(200, i) for dim in groups})[0] for i in range(len(labels))]
    alike = all(np.array_equal(one, curves[0]) for one in curves)
    lines = style.LINES if published else ("--",)
    for y, label, line in list(zip(curves, labels, lines * 9, strict=False))[: 1 if alike else None]:
        axes.plot(x, np.exp(y), line, color=style.INK)
        if not alike:
            axes.annotate(f"{label} bits", (x[150], np.exp(y[150])), va="center", fontsize=6, path_effects=style.HALO)
    axes.set(yscale="log", xscale="log" if log else "linear", xlim=x[[0, -1]])
    style.nats_axis(axes.yaxis)
    if symbol in ("N", "D", "qat_tokens"):
        style.counts_axis(axes.xaxis)
    elif symbol == "P":
        style.widths_axis(axes.xaxis, (2, 3, 4, 6, 8))
    elif log:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    style.grid(axes)
    others = ", ".join(f"{c} = {format_count(AT[c]) if AT[c] >= 1e6 else f'{AT[c]:g}'}" for c in law.covariates
                       if c != symbol)  # fmt: skip
    axes.set_title(name, loc="left", fontweight="bold")
    what = {"P": "bits", "N": "parameters", "D": "tokens"}.get(symbol, column_of(symbol))
    axes.set_xlabel("\n".join([what, *textwrap.wrap(others, 40)]), fontsize=7)
    axes.set_ylabel({"qid": "QiD", "loss": "loss", "loss_16bit": "16-bit loss"}[law.response])


def main() -> None:
    """Draw all in one picture."""
    names = [name for name in law_names() if name not in NOT_DRAWN]
    notes = [
        "In nats per token. Solid: the published constants. Dashed: the middle of the priors. Below: where the rest is."
    ]
    rows = style.panel_rows(len(names))
    with style.context():
        figure = style.figure("The shipped laws", notes, height=1.75 * rows)
        grid = figure.subplots(rows, style.ACROSS)
        for axes in grid.flat[len(names) :]:
            axes.remove()
        for axes, name in zip(grid.flat, names, strict=False):
            draw(axes, name)
        save(figure, PICTURE)
    Image.open(PICTURE).convert("RGB").quantize(_COLOURS).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
