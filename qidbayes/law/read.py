"""Read laws from TOML, and find the shipped ones in `models/`."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qidbayes.errors import InputError
from qidbayes.law.law import Law, Noise, suggestion
from qidbayes.law.prior import Prior
from qidbayes.resources import shipped
from qidbayes.toml import Section, parse_toml, read_toml

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
    path = law_file(name_or_path)
    return _law(Section(read_toml(path, "a law", _MAX_BYTES), str(path)), path.stem)


def law_file(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the file of a shipped law, or the path of a file as it is given.

    Raises
    ------
    InputError
        If there is no such law.
    """
    text = os.fspath(name_or_path)
    if text.endswith(".toml") or "/" in text or os.sep in text:
        return Path(text)
    path = shipped("models") / f"{text}.toml"
    if not path.is_file():
        known = law_names()
        near = suggestion(text, known)
        raise InputError(f"no law is called {text!r}{near}; shipped are {', '.join(known)}, or give a .toml file")
    return path


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
    return _law(Section(parse_toml(text, where, _MAX_BYTES), where), name)


def law_from_dict(declared: Mapping[str, Any], where: str = "law") -> Law:
    """Build a law from plain types, as `Law.to_dict` gives them.

    Raises
    ------
    InputError
        If a key is unknown or missing, or a value is not of its kind.
    """
    if not isinstance(declared, Mapping):
        raise InputError(f"{where}: no law; give a table with an equation and parameters")
    says = Section(declared, where)
    name = says.text("name", default="")
    return _law(Section({key: value for key, value in declared.items() if key != "name"}, where), name)


def _law(says: Section, name: str, response: str = "qid") -> Law:
    equation, parameters = says.text("equation"), says.section("parameters")
    define, reference, published = (says.section(key, optional=True) for key in ("define", "reference", "published"))
    points = {point: published.section(point) for point in published}
    fields: dict[str, Any] = {
        "name": name,
        "title": says.text("title", default=""),
        "source": says.text("source", default=""),
        "equation": equation,
        "response": says.text("response", default=response),
        "priors": {parameter: _prior(parameters.section(parameter)) for parameter in parameters},
        "define": {defined: define.text(defined) for defined in define},
        "reference": {covariate: _reference(reference, covariate) for covariate in reference},
        "published": {point: {key: _constant(values, key) for key in values} for point, values in points.items()},
        "unquantized": _unquantized(says) if "unquantized" in says else None,
        "loss_16bit": _base(says) if "loss_16bit" in says else None,
    }
    noise = _noise(says.section("noise", optional=True))
    says.close()
    try:
        return Law(**fields, noise=Noise(**noise))
    except InputError as error:
        raise InputError(f"{says.where}: {error}") from None


def _unquantized(says: Section) -> float:
    return math.inf if says.value("unquantized") == "infinity" else says.number("unquantized")


def _base(says: Section) -> Law:
    """Return a 16-bit law to stand beside: a shipped one by name, or what a table or a saved fit says of one."""
    if isinstance(says.value("loss_16bit"), Mapping):
        own = says.section("loss_16bit")
        if "loss_16bit" in own:
            raise InputError(f"{own.where}: a law of the 16-bit loss has none beside it")
        name = own.text("name", default="loss_16bit")
        return _law(own, name, "loss_16bit")
    name = says.text("loss_16bit")
    if name not in law_names():
        raise InputError(f"{says.where}: loss_16bit: no shipped law is called {name!r}{suggestion(name, law_names())}")
    return load_law(name)


def _prior(says: Section) -> Prior:
    family = says.text("prior")
    by: str | tuple[str, ...] = ()
    if "by" in says:
        by = says.text("by") if isinstance(says.value("by"), str) else says.texts("by")
    pooling = says.optional_text("pooling")
    arguments = {name: says.number(name) for name in says.rest()}
    try:
        return Prior(family, by=by, pooling=pooling, **arguments)
    except InputError as error:
        raise InputError(f"{says.where}: {error}") from None


def _noise(says: Section) -> dict[str, Any]:
    fields: dict[str, Any] = {"groups": says.texts("groups")} if "groups" in says else {}
    fields |= {key: says.text(key) for key in ("family", "discrepancy") if key in says}
    fields |= {"scale": says.number("scale")} if "scale" in says else {}
    says.close()
    return fields


def _reference(says: Section, name: str) -> float | str:
    return says.text(name) if isinstance(says.value(name), str) else says.number(name)


def _constant(says: Section, name: str) -> Any:
    if not isinstance(says.value(name), Mapping):
        return says.number(name)
    groups = says.section(name)
    return {label: groups.number(label) for label in groups}
