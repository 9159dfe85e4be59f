"""Where measurements stand for the noise: log N, log D, log P, and the codes of their groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from qidbayes.errors import InputError
from qidbayes.noise.conditioned import Kept
from qidbayes.noise.grid import connected
from qidbayes.table.groups import CHECKPOINT, labels

KIND = ("method", "group_size", "dataset")
"""What makes two quantizations of one bit width different kinds."""
NEW = -1
"""The code of a group that no fitted row is of."""


@dataclass(frozen=True)
class Fitted:
    """The rows of one fit, and the coordinates of further rows relative to them.

    Attributes
    ----------
    data
        The rows.
    models
        The models whose effects are known one by one, if they are.
    """

    data: pl.DataFrame
    models: tuple[str, ...] = ()

    @cached_property
    def own_coordinates(self) -> Mapping[str, np.ndarray]:
        """The coordinates of the fitted rows; see `coordinates`."""
        return self.coordinates(self.data)

    @cached_property
    def parts(self) -> np.ndarray:
        """Which of the rows share anything; see `qidbayes.noise.grid.connected`."""
        return connected(self.own_coordinates)

    @cached_property
    def kept(self) -> Kept:
        """A cache: what was worked out of the rows given the fit's draws."""
        return Kept()

    def coordinates(self, frame: pl.DataFrame) -> dict[str, np.ndarray]:
        """Return where a frame's rows stand.

        A suite or a model that a row does not name, because its field is empty or the frame has no such column, is new.
        Of a fitted model that is named, suite and size need not be given. A method, group size or data set that is not
        named is new as well, unless all fitted rows agree on it: then it is taken to be theirs. Each row stands where
        it would stand alone.

        Raises
        ------
        InputError
            If a row says neither its N, D and bits, nor a fitted model that has them.
        """
        frame = self._completed(frame)
        found = {}
        for short, column in (("params", "n_params"), ("tokens", "tokens"), ("bits", "bits")):
            if column not in frame.columns or frame[column].null_count():
                raise InputError(f"what the law misses depends on {column} too: give it with every question")
            found[f"log_{short}"] = np.log(frame[column].cast(pl.Float64).to_numpy())
        for group in ("suite", "model", CHECKPOINT):
            found[group] = self._codes(frame, group, (group,))
        found["kind"] = self._codes(frame, "kind", KIND)
        return found

    def labels(self, group: str) -> tuple[str, ...]:
        """Return the labels of the fitted suites, models, methods or data sets, in the order of their codes."""
        return tuple(labels(self.data, (group,)).unique(maintain_order=True))

    def codes(self, frame: pl.DataFrame, group: str) -> np.ndarray:
        """Return each row's code of a group; `NEW` where no fitted row is of it, or the row does not name one."""
        return self._codes(frame, group, (group,))

    def sizes(self, frame: pl.DataFrame) -> dict[str, np.ndarray]:
        """Return log N, log D and log P of a frame's rows; log D is not a number where the tokens are empty.

        Raises
        ------
        InputError
            If a column is missing, or N or P is empty.
        """
        found = {}
        for short, column in (("params", "n_params"), ("tokens", "tokens"), ("bits", "bits")):
            if column not in frame.columns or (frame[column].null_count() and column != "tokens"):
                raise InputError(f"what the law misses depends on {column} too: give it with every question")
            found[f"log_{short}"] = np.log(frame[column].cast(pl.Float64).fill_null(np.nan).to_numpy())
        return found

    def with_models_columns(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a frame with the suite and the size of each fitted model, where its row does not give them.

        Of a model that several suites hold it is the last of them: rows of one's own come after the fitted ones.
        """
        for column in ("suite", "n_params") if "model" in frame.columns else ():
            of_model = self.data.unique("model", keep="last", maintain_order=True).select(
                "model", pl.col(column).alias("known")
            )
            known = frame.select("model").join(of_model, on="model", how="left", maintain_order="left")["known"]
            frame = frame.with_columns(_filled(frame, column, known))
        return frame

    @cached_property
    def last_tokens(self) -> Mapping[str, int]:
        """The tokens of each fitted model's last checkpoint, if any row tells them."""
        told = self.data.filter(pl.col("tokens").is_not_null()) if "tokens" in self.data.columns else self.data.clear()
        return dict(told.group_by("model").agg(pl.col("tokens").max()).iter_rows()) if told.height else {}

    def with_models_tokens(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return a frame with the tokens of each fitted model's last checkpoint, where its row does not give them."""
        if "model" not in frame.columns:
            return frame
        known = [self.last_tokens.get(str(model)) for model in frame["model"]]
        return frame.with_columns(_filled(frame, "tokens", pl.Series(known, dtype=pl.Float64)))

    def coordinates_together(self, frame: pl.DataFrame) -> dict[str, np.ndarray]:
        """Return where rows stand that are known together: new groups are told apart by their labels."""
        known = self.data["model"].unique().to_list()
        named = frame["model"] if "model" in frame.columns else pl.Series([None] * frame.height, dtype=pl.String)
        fitted = named.is_in(known).fill_null(False)
        # Of a model that was not fitted, the name says only which rows share it.
        parts = (
            (fitted, frame.filter(fitted)),
            (~fitted, frame.filter(~fitted).drop("model", "revision", strict=False)),
        )
        found: dict[str, np.ndarray] = {}
        for rows, part in parts:
            for name, values in self.coordinates(part).items() if part.height else ():
                found.setdefault(name, np.empty(frame.height, dtype=values.dtype))[rows.to_numpy()] = values
        apart = {"model": models(frame), CHECKPOINT: checkpoints(frame)}
        for group, columns in (("suite", ("suite",)), ("kind", KIND)):
            given = [column for column in columns if column in frame.columns]
            apart[group] = labels(frame, given).to_list() if given else [""] * frame.height
        for group, names in apart.items():
            found[group] = np.where(found[group] == NEW, NEW - 1 - distinct(names), found[group])
        return found

    def _known_codes(self, columns: tuple[str, ...]) -> Mapping[str, int]:
        """Return the code of each label of the fitted rows."""
        return {label: code for code, label in enumerate(labels(self.data, columns).unique(maintain_order=True))}

    def _codes(self, frame: pl.DataFrame, group: str, columns: tuple[str, ...]) -> np.ndarray:
        needed = ("model", "revision") if group == CHECKPOINT else columns
        if any(column not in frame.columns for column in needed):
            return np.full(frame.height, NEW)
        known = self._known_codes(columns)
        return np.array([known.get(label, NEW) for label in labels(frame, columns)], dtype=np.int64)

    def _completed(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Fill in, row by row, what a row does not name: from its model's fitted rows, or from all if they agree.

        A suite is no property of a question that all rows could agree on: models of other suites are asked about too.
        """
        frame = self.with_models_columns(frame)
        for column in (*KIND, "bits"):
            # An empty group size is a value, per channel, wherever a frame has the column.
            if self.data[column].n_unique() == 1 and (column != "group_size" or column not in frame.columns):
                theirs = pl.repeat(self.data[column][0], frame.height, dtype=self.data.schema[column], eager=True)
                frame = frame.with_columns(_filled(frame, column, theirs))
        return frame


def models(frame: pl.DataFrame) -> list[str]:
    """Return each row's model by name; rows without one are of one model."""
    return [str(model) for model in frame["model"]] if "model" in frame.columns else [""] * frame.height


def checkpoints(frame: pl.DataFrame) -> list[str]:
    """Return each row's checkpoint by name; rows of no model are of one checkpoint."""
    if "model" not in frame.columns:
        return [""] * frame.height
    when = "revision" if "revision" in frame.columns else "tokens"
    if when not in frame.columns:
        return models(frame)
    return [f"{model} @ {at}" for model, at in zip(frame["model"], frame[when], strict=True)]


def distinct(names: Sequence[str]) -> np.ndarray:
    """Return each name's number, in the order in which they first come.

    Examples
    --------
    >>> distinct(["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    codes = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.array([codes[name] for name in names], dtype=np.int64)


def _filled(frame: pl.DataFrame, column: str, known: pl.Series) -> pl.Series:
    """Return a frame's column with what is known in the place of what it does not name."""
    if column not in frame.columns:
        return known.alias(column)
    return frame.select(pl.coalesce(column, pl.lit(known)).alias(column))[column]
