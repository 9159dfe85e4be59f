"""Read laws from TOML, and find the shipped ones in `models/`."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qidbayes.bounded import read_bounded
from qidbayes.errors import InputError
from qidbayes.law.law import Law, Noise, suggestion
from qidbayes.law.prior import Prior
from qidbayes.resources import shipped
from qidbayes.toml import parse_toml

_KEYS = (
    "title",
    "source",
    "response",
    "equation",
    "parameters",
    "define",
    "reference",
    "noise",
    "published",
    "loss_16bit",
)
_NOISE_KEYS = ("groups", "scale", "family", "discrepancy")
_MAX_BYTES = 50_000


def load_law(name_or_path: str | os.PathLike[str]) -> Law:
    """Return a shipped law by its name, or a law from a TOML file.

    Raises
    ------
    InputError
        If there is no such law, or the file does not declare one.

    Examples
    --------
    >>> load_law("unified").equation
    'k * D**beta / (N**alpha * P**gamma)'
    """
    text = os.fspath(name_or_path)
    if text.endswith(".toml") or "/" in text or os.sep in text:
        path = Path(text)
    else:
        path = shipped("models") / f"{text}.toml"
        if not path.is_file():
            known = law_names()
            near = suggestion(text, known)
            raise InputError(f"no law is called {text!r}{near}; shipped are {', '.join(known)}, or give a .toml file")
    try:
        source = read_bounded(path, _MAX_BYTES, "a law").decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 text") from error
    return parse_law(source, name=path.stem, where=str(path))


def law_names() -> list[str]:
    """Return the names of the shipped laws."""
    return sorted(path.stem for path in shipped("models").glob("*.toml"))


def parse_law(text: str, name: str = "law", where: str = "law") -> Law:
    """Read a law from TOML text.

    Raises
    ------
    InputError
        If the text is not TOML, or says something that a law does not have.

    Examples
    --------
    >>> law = parse_law('equation = "b * D**beta"\\n[parameters]\\nb = {prior="LogNormal", mu=0, sigma=2}\\n'
    ...                 'beta = {prior="Normal", mu=0.5, sigma=0.3}')
    >>> law.covariates
    ('D',)
    """
    declared = parse_toml(text, where, _MAX_BYTES)
    return law_from_dict({**declared, "name": name}, where) if "name" not in declared else _unknown("name", where)


def law_from_dict(declared: Mapping[str, Any], where: str = "law") -> Law:
    """Build a law from plain types, as `Law.to_dict` gives and a TOML file holds.

    Raises
    ------
    InputError
        If a key is unknown or missing, or a value is not of its kind.
    """
    for key in declared:
        if key not in (*_KEYS, "name"):
            _unknown(key, where)
    for key in ("equation", "parameters"):
        if key not in declared:
            raise InputError(f"{where}: {key!r} is missing")
    texts = {k: _typed(declared.get(k, ""), str, k, where) for k in ("name", "title", "source", "equation")}
    tables = {k: _typed(declared.get(k, {}), Mapping, k, where) for k in _KEYS[4:-1]}
    define = {n: _typed(t, str, f"define.{n}", where) for n, t in tables["define"].items()}
    published = {
        point: {
            n: _constant(v, f"published.{point}.{n}", where) for n, v in _typed(values, Mapping, point, where).items()
        }
        for point, values in tables["published"].items()
    }
    base = _base(declared["loss_16bit"], where) if "loss_16bit" in declared else None
    try:
        return Law(
            **texts,
            loss_16bit=base,
            response=_typed(declared.get("response", "qid"), str, "response", where),
            priors={n: _prior(spec, f"parameters.{n}", where) for n, spec in tables["parameters"].items()},
            define=define,
            reference={
                c: _typed(v, int | float | str, f"reference.{c}", where) for c, v in tables["reference"].items()
            },
            noise=_noise(tables["noise"], where),
            published=published,
        )
    except InputError as error:
        message = str(error)
        raise (error if message.startswith(where) else InputError(f"{where}: {message}")) from None


def _base(spec: Any, where: str) -> Law:
    """Return a 16-bit law to stand beside: a shipped one by name, or what a table or a saved fit says of one."""
    if isinstance(spec, Mapping):
        if "loss_16bit" in spec:
            raise InputError(f"{where}: loss_16bit.loss_16bit: a law of the 16-bit loss has none beside it")
        return law_from_dict({"name": "loss_16bit", "response": "loss_16bit", **spec}, f"{where}: loss_16bit")
    name = _typed(spec, str, "loss_16bit", where)
    if name not in law_names():
        raise InputError(f"{where}: loss_16bit: no shipped law is called {name!r}{suggestion(name, law_names())}")
    return load_law(name)


def _prior(spec: Any, key: str, where: str) -> Prior:
    fields = dict(_typed(spec, Mapping, key, where))
    family = _typed(fields.pop("prior", None), str, f"{key}.prior", where)
    by = fields.pop("by", ())
    if not isinstance(by, str):
        by = [_typed(column, str, f"{key}.by", where) for column in _typed(by, list | tuple, f"{key}.by", where)]
    pooling = fields.pop("pooling", None)
    if pooling is not None:
        _typed(pooling, str, f"{key}.pooling", where)
    fields = {name: _typed(value, int | float, f"{key}.{name}", where) for name, value in fields.items()}
    try:
        return Prior(family, by=by, pooling=pooling, **fields)
    except InputError as error:
        raise InputError(f"{where}: {key}: {error}") from None


def _noise(spec: Mapping[str, Any], where: str) -> Noise:
    for key in spec:
        if key not in _NOISE_KEYS:
            raise InputError(f"{where}: noise.{key} is not known; accepted are {', '.join(_NOISE_KEYS)}")
    fields = dict(spec)
    if "groups" in fields:
        groups = _typed(fields["groups"], list | tuple, "noise.groups", where)
        fields["groups"] = tuple(_typed(g, str, "noise.groups", where) for g in groups)
    if "family" in fields:
        _typed(fields["family"], str, "noise.family", where)
    if "scale" in fields:
        _typed(fields["scale"], int | float, "noise.scale", where)
    if "discrepancy" in fields:
        _typed(fields["discrepancy"], str, "noise.discrepancy", where)
    return Noise(**fields)


def _constant(value: Any, key: str, where: str) -> Any:
    if isinstance(value, Mapping):
        return {label: _typed(v, int | float, key, where) for label, v in value.items()}
    return _typed(value, int | float, key, where)


def _typed(value: Any, kind: Any, key: str, where: str) -> Any:
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    named = {
        str: "text",
        Mapping: "a table",
        list | tuple: "a list",
        int | float: "a number",
        int | float | str: "a number or 'data'",
    }[kind]
    found = "nothing" if value is None else type(value).__name__
    raise InputError(f"{where}: {key} must be {named}, not {found}")


def _unknown(key: str, where: str) -> Law:
    raise InputError(f"{where}: {key!r} is not known{suggestion(key, _KEYS)}; accepted are {', '.join(_KEYS)}")
