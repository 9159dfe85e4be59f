"""A fit as a NetCDF file in ArviZ's layout, and how it is read without the C library that reads NetCDF.

That library can crash, hang or take all memory on a file that somebody made up on purpose. So behind the NetCDF, which
is for others, stands an index: a line of JSON that says what the fit is and at which bytes of the file its numbers lie.
Only that is read here. Last comes a seal, the SHA-256 of all before it. Other readers pass over both.
"""

import hashlib
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from qidbayes.atomic import write_whole
from qidbayes.errors import InputError
from qidbayes.law.read import law_from_dict
from qidbayes.noise.kernels import SIMILARITY
from qidbayes.posterior.constants import dimensions, raw_constants
from qidbayes.posterior.contraction import judged
from qidbayes.posterior.convergence import bfmi, convergence_of_draws
from qidbayes.posterior.diagnostics import Convergence, Diagnostics, number
from qidbayes.posterior.posterior import Posterior
from qidbayes.posterior.summary import reported
from qidbayes.units import format_bytes

if TYPE_CHECKING:
    import xarray

    from qidbayes.posterior.likelihood import Unit

FORMAT = "qidbayes fit 2"
_STATS = ("diverging", "energy", "n_steps", "acceptance_rate", "lp")
_MAX_BYTES = 4 * 1024**3
_INDEX = b"\nqidbayes index "
_SEAL = b"\nqidbayes sha256 "
_SEAL_BYTES = len(_SEAL) + 64 + 1  # the hash in hexadecimal, and a line's end
_TYPES = {"f8": 8, "i8": 8, "i4": 4, "i1": 1}


def sealed(content: bytes) -> bytes:
    """Return the bytes of a NetCDF file with their seal."""
    return content + _SEAL + hashlib.sha256(content).hexdigest().encode() + b"\n"


def unsealed(content: bytes, where: str) -> bytes:
    """Return the bytes of a NetCDF file whose seal holds, without it.

    Raises
    ------
    InputError
        If there is no seal, or the bytes are not the ones that were sealed.
    """
    body = content[:-_SEAL_BYTES]
    if not content[-_SEAL_BYTES:].startswith(_SEAL):
        raise InputError(
            f"{where}: is not a saved fit, or a part of one: the seal at its end is missing; "
            "copy it again, or fit again"
        )
    if sealed(body) != content:
        raise InputError(
            f"{where}: is a damaged fit: its bytes are not the ones that were saved; copy it again, or fit again"
        )
    return body


def save(fit: Posterior, path: str | os.PathLike[str]) -> None:
    """Write a fit; see `Fit.save`."""
    import netCDF4

    file = netCDF4.Dataset("fit.nc", "w", memory=1024)
    _write(file, fit)
    content = bytearray(file.close())
    index = json.dumps(_index(content, fit)).encode()  # without line ends, so that the last such line is the index
    write_whole(path, sealed(bytes(content) + _INDEX + index))


def _index(content: bytearray, fit: Posterior) -> dict[str, Any]:
    """Return what there is to know of a fit, and where in the NetCDF its numbers are."""
    said = _attributes(fit)
    return {
        **said,
        "coords": {dim: list(labels) for dim, labels in fit.coords.items()},
        "dims": dict(fit.dims),
        "draws": {name: _appended(content, np.asarray(values, dtype=float)) for name, values in fit.draws.items()},
        "stats": {name: _appended(content, _stored(fit.stats[name])) for name in _STATS},
        "data": {
            name: fit.data[name].to_list()
            if fit.data[name].dtype == pl.String
            else _appended(content, _numbers(fit, name))
            for name in fit.data.columns
        },
        "loss_16bit": _index(content, fit.loss_16bit) if fit.loss_16bit else None,
    }


def _appended(content: bytearray, values: np.ndarray) -> dict[str, Any]:
    """Return where an array's bytes lie; they are appended where the NetCDF has them in some other way."""
    raw = values.astype(values.dtype.newbyteorder("<")).tobytes()
    at = content.find(raw)
    if at < 0:
        at = len(content)
        content += raw
    return {"at": at, "type": f"{values.dtype.kind}{values.dtype.itemsize}", "shape": list(values.shape)}


def _stored(values: np.ndarray) -> np.ndarray:
    """Return a statistic in a type that NetCDF has."""
    return np.asarray(values, dtype="i1" if values.dtype == bool else values.dtype)


def _in_order(fit: Posterior) -> dict[str, np.ndarray]:
    """Return the draws as a reader wants them listed: the law's constants, the noise's numbers, then single effects."""
    names = dict.fromkeys([*reported(fit), *fit.draws])
    return {name: fit.draws[name] for name in names if name in fit.draws}


def _numbers(fit: Posterior, name: str) -> np.ndarray:
    return fit.data[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _write(file: Any, fit: Posterior) -> None:
    file.setncatts(_attributes(fit))
    posterior = file.createGroup("posterior")
    _chain_and_draw(posterior, fit)
    for dim, labels in fit.coords.items():
        posterior.createDimension(dim, len(labels))
        posterior.createVariable(dim, str, (dim,))[:] = np.array(labels, dtype=object)
    for name, values in _in_order(fit).items():
        dims = ("chain", "draw", *([fit.dims[name]] if name in fit.dims else []))
        posterior.createVariable(name, "f8", dims)[:] = values
    stats = file.createGroup("sample_stats")
    _chain_and_draw(stats, fit)
    for name, values in fit.stats.items():
        stored = _stored(values)
        variable = stats.createVariable(name, stored.dtype, ("chain", "draw"))
        if values.dtype == bool:
            variable.setncattr("dtype", "bool")  # how xarray marks booleans
        variable[:] = stored
    response = fit.law.response
    observed, constant = file.createGroup("observed_data"), file.createGroup("constant_data")
    for group, columns in ((observed, [response]), (constant, [c for c in fit.data.columns if c != response])):
        group.createDimension("row", fit.data.height)
        for column in columns:
            series = fit.data[column]
            if series.dtype == pl.String:
                group.createVariable(column, str, ("row",))[:] = np.array(series.fill_null("").to_list(), dtype=object)
            else:
                group.createVariable(column, "f8", ("row",))[:] = _numbers(fit, column)
    if fit.loss_16bit:
        _write(file.createGroup("loss_16bit"), fit.loss_16bit)


def _chain_and_draw(group: Any, fit: Posterior) -> None:
    for dim, size in zip(("chain", "draw"), fit.stats["lp"].shape, strict=True):
        group.createDimension(dim, size)
        group.createVariable(dim, "i8", (dim,))[:] = np.arange(size)


def _attributes(fit: Posterior) -> dict[str, str]:
    diagnostics = fit.diagnostics
    return {
        "format": FORMAT,
        "law": json.dumps(fit.law.to_dict()),
        "attributes": json.dumps(dict(fit.attributes)),
        "diagnostics": json.dumps(
            {
                "convergence": {n: [c.r_hat, c.ess_bulk, c.ess_tail] for n, c in diagnostics.convergence.items()},
                "divergences": diagnostics.divergences,
                "bfmi": list(diagnostics.bfmi),
                "contraction": dict(diagnostics.contraction),
                "shift": dict(diagnostics.shift),
                "doubts": list(diagnostics.doubts),
            }
        ),
    }


def load(path: str | os.PathLike[str]) -> Posterior:
    """Read a fit; see `load_fit`."""
    path = Path(path)
    try:
        if not path.exists():
            raise InputError(f"{path}: there is no such file; `qidbayes fit` writes one")
        if not path.is_file():
            raise InputError(f"{path}: is not a file; give one that `qidbayes fit` wrote")
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(f"{path}: is larger than 4 GiB; that is not a saved fit")
        content = unsealed(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a file that you may read") from error
    end = content.rfind(_INDEX)
    if end < 0:
        raise InputError(f"{path}: is not a saved fit of this version, which has an index at its end; fit again")
    numbers = _Numbers(memoryview(content)[:end], str(path))
    try:
        return _read(json.loads(content[end + len(_INDEX) :]), numbers, str(path))
    except InputError:
        raise
    except Exception as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: is not a saved fit, or a damaged one ({detail})") from error


class _Numbers:
    """Arrays of a file's bytes, which together are no more than the file has."""

    def __init__(self, content: memoryview, where: str) -> None:
        self._content = content
        self._left = len(content)
        self._where = where

    def at(self, entry: Any) -> np.ndarray:
        """Return the array that an entry of the index describes."""
        first, kind, shape = entry["at"], entry["type"], entry["shape"]
        if kind not in _TYPES or not all(isinstance(n, int) and n >= 0 for n in (first, *shape)) or len(shape) > 3:
            raise InputError(f"{self._where}: is a damaged fit: its index says {entry!r:.100} of some numbers")
        size = math.prod(shape) * _TYPES[kind]
        self._left -= size
        if self._left < 0 or first + size > len(self._content):
            listed, held = " × ".join(map(str, shape)), format_bytes(len(self._content))
            raise InputError(
                f"{self._where}: is a damaged fit: by its index {listed} numbers are in it, and with the others those "
                f"are more than its {held}"
            )
        return np.frombuffer(self._content, f"<{kind}", math.prod(shape), first).reshape(shape).copy()


def _read(index: Any, numbers: _Numbers, where: str) -> Posterior:
    if index["format"] != FORMAT:
        raise InputError(f"{where}: is not a saved fit of this version; expected format {FORMAT!r}")
    law = law_from_dict(json.loads(index["law"]), f"{where}: law")
    coords = {str(dim): tuple(map(str, labels)) for dim, labels in index["coords"].items()}
    dims = {str(name): str(dim) for name, dim in index["dims"].items()}
    stats = {name: numbers.at(index["stats"][name]) for name in _STATS}
    stats["diverging"] = stats["diverging"].astype(bool)
    shape = stats["lp"].shape
    if len(shape) != 2 or not all(shape) or any(values.shape != shape for values in stats.values()):
        raise InputError(f"{where}: the sampler's statistics are not all of one shape, chains by draws")
    draws = {str(name): numbers.at(entry).astype(float) for name, entry in index["draws"].items()}
    for name, values in draws.items():
        if values.shape != (*shape, *([len(coords[dims[name]])] if name in dims else [])):
            raise InputError(f"{where}: {name!r} has not a draw for each of the sampler's")
    _check_names(law, draws, dims, where)
    columns = {}
    for name, found in index["data"].items():
        if isinstance(found, list):
            columns[name] = pl.Series(name, found, dtype=pl.String)
        else:  # null again, as it was before it was saved
            columns[name] = pl.Series(name, numbers.at(found).astype(float)).fill_nan(None)
    saved = json.loads(index["diagnostics"])
    diagnostics = Diagnostics(
        convergence={str(n): Convergence(*map(float, c)) for n, c in saved["convergence"].items()},
        divergences=int(saved["divergences"]),
        bfmi=tuple(map(float, saved["bfmi"])),
        contraction={str(n): float(c) for n, c in saved["contraction"].items()},
        shift={str(n): float(s) for n, s in saved["shift"].items()},
        doubts=tuple(map(str, saved["doubts"])),
    )
    for name, prior in law.priors.items():
        sampled = law.sampled_name(name)
        for label in (number(sampled, group) for group in (coords[dims[sampled]] if prior.by else (None,))):
            if label not in diagnostics.contraction:
                raise InputError(f"{where}: its diagnostics do not say whether {label!r} is identified")
    attributes = json.loads(index["attributes"])
    if not 0 <= int(attributes["random_seed"]) < 2**32:
        raise InputError(f"{where}: random_seed is {attributes['random_seed']!r}, not a whole number from 0 to 2³² − 1")
    base = _read(index["loss_16bit"], numbers, f"{where}: loss_16bit") if law.loss_16bit else None
    if base and base.law != law.loss_16bit:
        raise InputError(f"{where}: the 16-bit law fitted beside it is not the one its law names")
    if attributes.get("law_fingerprint", law.fingerprint()) != law.fingerprint():
        raise InputError(f"{where}: holds another law than the one that was fitted; fit again")
    record = Posterior(law, draws, dims, coords, stats, pl.DataFrame(columns), diagnostics, attributes, base)
    _check_constants(record, where)
    return replace(record, diagnostics=_judged(record))


def _check_constants(fit: Posterior, where: str) -> None:
    """Refuse a file whose constants in raw counts do not follow from what was sampled."""
    flat = _flat(fit)
    for name, expected in raw_constants(fit.law, flat).items():
        if name in flat and not np.allclose(flat[name], expected, rtol=1e-9, atol=0.0, equal_nan=True):
            raise InputError(
                f"{where}: the draws of {name!r} do not follow from those of the law's parameters; fit again"
            )


def _flat(fit: Posterior) -> dict[str, np.ndarray]:
    return {name: values.reshape(-1, *values.shape[2:]) for name, values in fit.draws.items()}


def _judged(fit: Posterior) -> Diagnostics:
    """Return a fit's diagnostics, with all that its draws and their statistics tell worked out from them.

    What was drawn of single rows and is not kept has only what was said of it when it was fitted.
    """
    found = fit.diagnostics
    if "conditioned_on" not in fit.attributes:  # else the draws were resampled, and are no chain that could be judged
        own = convergence_of_draws(fit.law, fit.draws, fit.dims, fit.coords)
        found = replace(
            found,
            convergence={**found.convergence, **own},
            divergences=int(fit.stats["diverging"].sum()),
            bfmi=bfmi(fit.stats["energy"]),
        )
    found = judged(found, fit.law, _flat(fit), fit.coords)
    return found.with_part("loss_16bit", fit.loss_16bit.diagnostics) if fit.loss_16bit else found


def _check_names(law: Any, draws: dict[str, np.ndarray], dims: dict[str, str], where: str) -> None:
    """Refuse a file whose draws are not of its law, before a question trips over it."""
    grouped = dimensions(law)
    pooled = [name for name, prior in law.priors.items() if prior.pooled]
    populations = [*map(law.population_name, pooled), *map(law.spread_name, pooled)]
    for name in ("sigma", *(law.sampled_name(p) for p in law.priors), *populations, *law.constants):
        if name not in draws:
            raise InputError(f"{where}: has no draws of {name!r}")
    for name in law.constants:
        if dims.get(name) != grouped.get(name):
            raise InputError(f"{where}: {name!r} does not differ by what its law says")
    derived = {*law.unit_powers, *law.define}  # these may overflow, what was sampled may not
    for name, values in draws.items():
        if name.removesuffix("_ref") not in derived and not np.isfinite(values).all():
            raise InputError(f"{where}: {name!r} has draws that are not finite")
        least, most = _range(name) if name not in law.priors else (-np.inf, np.inf)
        if not ((values >= least) & (values <= most)).all():
            raise InputError(f"{where}: {name!r} has draws outside {least:g} to {most:g}")


def _range(name: str) -> tuple[float, float]:
    """Return what no draw of a number of the noise is outside of; it would make matrices that have no root."""
    if name.startswith("length_"):
        return 1e-6, 1e6
    if name == "sigma" or name.endswith("_sd"):
        return 0.0, 1e6
    return (0.0, 1.0) if name == SIMILARITY else (-np.inf, np.inf)


def to_datatree(
    fit: Posterior, log_likelihood: "bool | Unit" = False, posterior_predictive: bool = False, prior: bool = False
) -> "xarray.DataTree":
    """Return a fit as a DataTree; see `Fit.to_datatree`."""
    import xarray

    from qidbayes.posterior import groups_for_arviz

    if log_likelihood not in (True, False, "row", "checkpoint"):
        raise InputError(f"log_likelihood must be True, False, 'row' or 'checkpoint', not {log_likelihood!r}")

    def dataset(values: dict[str, np.ndarray], dims: dict[str, tuple[str, ...]], coords: dict[str, Any]) -> Any:
        return xarray.Dataset({name: (dims[name], v) for name, v in values.items()}, coords=coords)

    chains, length = fit.stats["lp"].shape
    chain_draw = {"chain": np.arange(chains), "draw": np.arange(length)}
    labels = {dim: list(values) for dim, values in fit.coords.items()}
    dims = {name: ("chain", "draw", *([fit.dims[name]] if name in fit.dims else [])) for name in fit.draws}
    rows = {name: fit.data[name].to_numpy() for name in fit.data.columns}
    response = fit.law.response
    where = groups_for_arviz.row_coords(fit)
    rows = {name: values for name, values in rows.items() if name not in where}
    tree = xarray.DataTree.from_dict(
        {
            "/posterior": dataset(_in_order(fit), dims, chain_draw | labels),
            "/sample_stats": dataset(dict(fit.stats), dict.fromkeys(fit.stats, ("chain", "draw")), chain_draw),
            "/observed_data": dataset({response: rows.pop(response)}, {response: ("row",)}, where),
            "/constant_data": dataset(rows, dict.fromkeys(rows, ("row",)), where),
        }
    )
    tree.attrs.update(_attributes(fit))
    if log_likelihood:
        unit: Unit = "checkpoint" if log_likelihood is True else log_likelihood
        tree["log_likelihood"] = xarray.DataTree(groups_for_arviz.log_likelihood(fit, unit))
    if posterior_predictive:
        tree["posterior_predictive"] = xarray.DataTree(groups_for_arviz.posterior_predictive(fit))
    if prior:
        tree["prior"] = xarray.DataTree(groups_for_arviz.prior(fit))
    if fit.loss_16bit:
        tree["loss_16bit"] = to_datatree(fit.loss_16bit, log_likelihood, posterior_predictive, prior)
    return tree
