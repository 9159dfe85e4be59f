"""QiD at 100 trillion tokens, and the tokens at which it reaches a threshold: `make far`.

A new family by the atlas, and Pythia by a fit to its own 360 points: under reversion (the default, whose discrepancy
returns to the law), and with slopes that wander (`discrepancy = "walk"`). Beside them stands the paper, a law a width.
The atlas has no walk in it: what one would add from its last token on is worked out beside it, by the prior of a walk.
"""

from pathlib import Path

import numpy as np
import polars as pl

import qidbayes as qb
from qidbayes.posterior.contraction import noise_priors

HERE = Path(__file__).parent
PARAMS, BITS, TOKENS, QID = (7e9, 70e9), (2, 3, 4), (1e12, 10e12, 100e12), (0.2, 0.5)
END = 36e12
"""The longest training in the atlas, tokens."""
BAND = (0.5, 0.05, 0.95)
PYTHIA = {"suite": "pythia", "method": "gptq", "dataset": "refinedweb"}
FAMILY = {"method": "gptq", "dataset": "wikitext2"}


def walked(draws: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return log QiD with a walk of its slope from the end of the atlas on; shape ``(draws, tokens)``."""
    rng = np.random.default_rng(0)
    sd = noise_priors(qb.load_law("unified"))["walk_sd"].sample(len(draws), rng)
    far = np.maximum(np.log(tokens / END), 0.0)
    return draws + (sd * rng.standard_normal(len(draws)))[:, None] * np.sqrt(far**3 / 3.0)


def crossing(draws: np.ndarray, tokens: np.ndarray, qid: float) -> list[float]:
    """Return where the quantiles of QiD along D rise to a threshold, in tokens: the median, the ends of the band."""
    found = []
    for quantile in np.quantile(draws, (0.5, 0.95, 0.05), axis=0):
        above = np.flatnonzero(quantile >= np.log(qid))
        found.append(float(tokens[above[0]]) if above.size else np.inf)
    return found


def of_atlas() -> list[dict[str, object]]:
    """Return the atlas's answers about a new family."""
    fit, found = qb.load_fit("atlas"), []
    grid = np.geomspace(1e9, 1e19, 161)
    for params in PARAMS:
        for bits in BITS:
            about = pl.DataFrame({"n_params": params, "bits": float(bits), **FAMILY})
            some = fit.log_draws(about.join(pl.DataFrame({"tokens": TOKENS}), how="cross"))
            along = fit.log_draws(about.join(pl.DataFrame({"tokens": grid}), how="cross"))
            for by in ("atlas", "atlas, walk from 36T"):
                at, on = (walked(some, np.array(TOKENS)), walked(along, grid)) if by != "atlas" else (some, along)
                ends = np.exp(np.quantile(at, BAND, axis=0)).T
                for tokens, values in zip(TOKENS, ends, strict=True):
                    found.append(row("qid", by, params, bits, tokens, *values))
                for qid in QID:
                    found.append(row("tokens", by, params, bits, qid, *crossing(on, grid, qid)))
    return found


def of_fit(fit: qb.Fit, by: str) -> list[dict[str, object]]:
    """Return a fit's answers about another run of Pythia."""
    given = {"n_params": list(PARAMS), "bits": list(BITS), **PYTHIA}
    qid = fit.predict(tokens=list(TOKENS), **given)
    tokens = fit.tokens_to_threshold(list(QID), **given)
    asked = ("n_params", "bits")
    return [
        *(row("qid", by, *one) for one in qid.select(*asked, "tokens", "median", "lower", "upper").rows()),
        *(row("tokens", by, *one) for one in tokens.select(*asked, "qid", "tokens", "lower", "upper").rows()),
    ]


def of_paper() -> list[dict[str, object]]:
    """Return the paper's answers, by its constants of each width."""
    point = qb.published("per-bit")
    qid = point.predict(n_params=list(PARAMS), tokens=list(TOKENS), bits=list(BITS))
    tokens = point.tokens_to_threshold(list(QID), n_params=list(PARAMS), bits=list(BITS))
    none = (None, None)
    return [
        *(row("qid", "paper", *one, *none) for one in qid.select("n_params", "bits", "tokens", "median").rows()),
        *(row("tokens", "paper", *one, *none) for one in tokens.select("n_params", "bits", "qid", "tokens").rows()),
    ]


def row(
    what: str, by: str, params: float, bits: float, at: float, median: float, lower: float | None, upper: float | None
) -> dict[str, object]:
    """Return one answer: QiD (nats per token) at so many tokens, or the tokens at so large a QiD."""
    return {
        "answer": what, "by": by, "n_params": params, "bits": bits, "at": at,
        "median": median, "lower": lower, "upper": upper,
    }  # fmt: skip


def main() -> None:
    """Fit, ask, and write benchmarks/far.csv."""
    table, law = qb.load_table("pythia"), qb.load_law("unified")
    found = [*of_atlas(), *of_paper()]
    for by, discrepancy in (("Pythia, reversion", "smooth"), ("Pythia, walk", "walk")):
        fit = qb.fit(table, law.with_noise(discrepancy=discrepancy), random_seed=0)
        for problem in fit.diagnostics.problems():
            print(by, problem)
        found += of_fit(fit, by)
    frame = pl.DataFrame(found, infer_schema_length=None).with_columns(pl.selectors.float().round_sig_figs(3))
    frame.sort("answer", "n_params", "bits", "at", maintain_order=True).write_csv(HERE / "far.csv")
    with pl.Config(tbl_rows=-1, tbl_cols=-1, tbl_width_chars=140):
        print(frame.filter(n_params=7e9, bits=4).sort("answer", "at", "by"))


if __name__ == "__main__":
    main()
