"""A fit as a NetCDF file in ArviZ's layout: written whole, read without running anything it holds.

Behind the NetCDF stands a seal, the SHA-256 of all before it, which other readers pass over. The C library that reads
NetCDF can crash or hang on a damaged file; it is shown only bytes that are as they were written.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import netCDF4
import numpy as np
import polars as pl

from qidbayes.atomic import write_whole
from qidbayes.errors import InputError
from qidbayes.law.read import law_from_dict
from qidbayes.posterior.constants import dimensions
from qidbayes.posterior.contraction import judged
from qidbayes.posterior.diagnostics import Convergence, Diagnostics
from qidbayes.posterior.discrepancy import SIMILARITY
from qidbayes.posterior.patience import in_time
from qidbayes.posterior.record import Record

if TYPE_CHECKING:
    import xarray

FORMAT = "qidbayes fit 1"
_STATS = ("diverging", "energy", "n_steps", "acceptance_rate", "lp")
_MAX_BYTES = 4 * 1024**3
_PATIENCE = 30.0  # seconds; the C library goes round in circles on some files made up on purpose
_SEAL = b"\nqidbayes sha256 "
_SEAL_BYTES = len(_SEAL) + 64 + 1  # the hash in hexadecimal, and a line's end


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


def save(fit: Record, path: str | os.PathLike[str]) -> None:
    """Write a fit; see `Fit.save`."""
    file = netCDF4.Dataset("fit.nc", "w", memory=1024)
    _write(file, fit)
    write_whole(path, sealed(bytes(file.close())))


def _write(file: Any, fit: Record) -> None:
    file.setncatts(_attributes(fit))
    posterior = file.createGroup("posterior")
    _chain_and_draw(posterior, fit)
    for dim, labels in fit.coords.items():
        posterior.createDimension(dim, len(labels))
        posterior.createVariable(dim, str, (dim,))[:] = np.array(labels, dtype=object)
    for name, values in fit.draws.items():
        dims = ("chain", "draw", *([fit.dims[name]] if name in fit.dims else []))
        posterior.createVariable(name, "f8", dims)[:] = values
    stats = file.createGroup("sample_stats")
    _chain_and_draw(stats, fit)
    for name, values in fit.stats.items():
        stored = np.asarray(values, dtype="i1" if values.dtype == bool else values.dtype)
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
                group.createVariable(column, "f8", ("row",))[:] = series.cast(pl.Float64).fill_null(np.nan).to_numpy()
    if fit.loss_16bit:
        _write(file.createGroup("loss_16bit"), fit.loss_16bit)


def _chain_and_draw(group: Any, fit: Record) -> None:
    for dim, size in zip(("chain", "draw"), fit.stats["lp"].shape, strict=True):
        group.createDimension(dim, size)
        group.createVariable(dim, "i8", (dim,))[:] = np.arange(size)


def _attributes(fit: Record) -> dict[str, str]:
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


def load(path: str | os.PathLike[str]) -> Record:
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
    patience = _PATIENCE + len(content) / 1e6  # a second a megabyte: a hundred times what it takes

    def parsed() -> Record:
        with netCDF4.Dataset("fit.nc", memory=content) as file:
            file.set_auto_mask(False)
            return _read(file, str(path))

    try:
        return in_time(parsed, patience)
    except InputError:
        raise
    except TimeoutError as error:
        raise InputError(f"{path}: is not a saved fit: reading it did not end in {patience:.0f} seconds") from error
    except Exception as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: is not a saved fit, or a damaged one ({detail})") from error


def _read(file: Any, where: str) -> Record:
    if getattr(file, "format", None) != FORMAT:
        raise InputError(f"{where}: is not a saved fit of this version; expected format {FORMAT!r}")
    law = law_from_dict(json.loads(file.law), f"{where}: law")
    posterior, sample_stats = file.groups["posterior"], file.groups["sample_stats"]
    shape = (posterior.dimensions["chain"].size, posterior.dimensions["draw"].size)
    coords = {
        dim: tuple(map(str, posterior.variables[dim][:]))
        for dim in posterior.dimensions
        if dim not in ("chain", "draw")
    }
    draws, dims = {}, {}
    for name, variable in posterior.variables.items():
        if name in posterior.dimensions:
            continue
        if variable.dimensions[:2] != ("chain", "draw") or len(variable.dimensions) > 3:
            raise InputError(f"{where}: {name!r} has dimensions {variable.dimensions}, not chain and draw")
        draws[name] = np.asarray(variable[:], dtype=float)
        if len(variable.dimensions) == 3:
            dims[name] = variable.dimensions[2]
    stats = {name: np.asarray(sample_stats.variables[name][:]) for name in _STATS}
    stats["diverging"] = stats["diverging"].astype(bool)
    if any(values.shape != shape for values in stats.values()):
        raise InputError(f"{where}: the sampler's statistics are not of the posterior's shape")
    _check_names(law, draws, dims, where)
    columns = {}
    for group in ("constant_data", "observed_data"):
        for name, variable in file.groups[group].variables.items():
            values = variable[:]
            text = variable.dtype is str
            column = pl.Series(name, list(map(str, values)) if text else np.asarray(values, float))
            columns[name] = column if text else column.fill_nan(None)  # as it was before it was saved
    saved = json.loads(file.diagnostics)
    diagnostics = Diagnostics(
        convergence={str(n): Convergence(*map(float, c)) for n, c in saved["convergence"].items()},
        divergences=int(saved["divergences"]),
        bfmi=tuple(map(float, saved["bfmi"])),
        contraction={str(n): float(c) for n, c in saved["contraction"].items()},
        shift={str(n): float(s) for n, s in saved["shift"].items()},
        doubts=tuple(map(str, saved["doubts"])),
    )
    attributes = json.loads(file.attributes)
    if not 0 <= int(attributes["random_seed"]) < 2**32:
        raise InputError(f"{where}: random_seed is {attributes['random_seed']!r}, not a whole number from 0 to 2³² − 1")
    base = _read(file.groups["loss_16bit"], f"{where}: loss_16bit") if law.loss_16bit else None
    if base and base.law != law.loss_16bit:
        raise InputError(f"{where}: the 16-bit law fitted beside it is not the one its law names")
    flat = {name: values.reshape(-1, *values.shape[2:]) for name, values in draws.items()}
    diagnostics = judged(diagnostics, law, flat, coords, base.diagnostics if base else None)
    return Record(law, draws, dims, coords, stats, pl.DataFrame(columns), diagnostics, attributes, base)


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
    derived = {*law.scales, *law.define}  # these may overflow, what was sampled may not
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


def to_datatree(fit: Record) -> "xarray.DataTree":
    """Return a fit as a DataTree; see `Fit.to_datatree`."""
    import xarray

    def dataset(values: dict[str, np.ndarray], dims: dict[str, tuple[str, ...]], coords: dict[str, Any]) -> Any:
        return xarray.Dataset({name: (dims[name], v) for name, v in values.items()}, coords=coords)

    chains, length = fit.stats["lp"].shape
    chain_draw = {"chain": np.arange(chains), "draw": np.arange(length)}
    labels = {dim: list(values) for dim, values in fit.coords.items()}
    dims = {name: ("chain", "draw", *([fit.dims[name]] if name in fit.dims else [])) for name in fit.draws}
    rows = {name: fit.data[name].to_numpy() for name in fit.data.columns}
    response = fit.law.response
    tree = xarray.DataTree.from_dict(
        {
            "/posterior": dataset(dict(fit.draws), dims, chain_draw | labels),
            "/sample_stats": dataset(dict(fit.stats), dict.fromkeys(fit.stats, ("chain", "draw")), chain_draw),
            "/observed_data": dataset({response: rows.pop(response)}, {response: ("row",)}, {}),
            "/constant_data": dataset(rows, dict.fromkeys(rows, ("row",)), {}),
        }
    )
    tree.attrs.update(_attributes(fit))
    if fit.loss_16bit:
        tree["loss_16bit"] = to_datatree(fit.loss_16bit)
    return tree
