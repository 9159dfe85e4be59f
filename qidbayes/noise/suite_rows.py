"""Rows of one suite, given each draw of what all suites share: their density, and what it leaves to be drawn.

With z the standard normal of λ = exp(s·z), which says how noisy the suite is, and v the standard normals of the effects
that are not known, as of methods and data sets that no other suite has, the rows' log responses are normal with the
covariance

    C(λ) = F + WW' + λ² G

where W has the effects' columns, G what λ makes larger and F the rest. v is integrated out in C. So is z, numerically:
with the Cholesky root L of G and eigenvalues e and vectors Q of L⁻¹(F + WW')L⁻ᵀ the density is, for every λ at once,

    log p(r | λ) = −½ Σ (t² / (e + λ²) + log(e + λ²)) − log|L| − ½ n log 2π,   t = Q'L⁻¹r.

The nodes of z are a grid that each draw shifts by a uniform number: their sum is an unbiased estimate of the integral,
and a node chosen by its share of it is an exact draw of z, whatever the step.
"""

from dataclasses import dataclass

import numpy as np

_REACH, _STEP = 5.0, 0.2
"""How far out z goes, and the step of its grid: 40 rows tell z to 0.3."""


@dataclass(frozen=True)
class SuiteRows:
    """The rows of one suite; see the module's text.

    Attributes
    ----------
    mean
        Of the log responses; shape ``(draws, rows)``.
    fixed, scaled
        F + WW' and G; shape ``(draws, rows, rows)``.
    columns
        W; shape ``(draws, rows, normals)``.
    scale_sd
        s; shape ``(draws,)``. None for a suite whose λ is known, and in G.
    """

    mean: np.ndarray
    fixed: np.ndarray
    scaled: np.ndarray
    columns: np.ndarray
    scale_sd: np.ndarray | None

    def first(self, count: int) -> "SuiteRows":
        """Return the first rows by themselves."""
        at = slice(count)
        parts = (self.mean[:, at], self.fixed[:, at, at], self.scaled[:, at, at], self.columns[:, at])
        return SuiteRows(*parts, self.scale_sd)

    def weighed(self, log_response: np.ndarray, rng: np.random.Generator) -> "Weighed":
        """Return the log density of the rows given each draw, at the nodes of z and in all.

        Parameters
        ----------
        log_response
            Shape ``(rows,)``.
        rng
            Shifts the nodes.
        """
        count = len(self.mean)
        if self.scale_sd is None:
            z, log_prior = np.zeros((count, 1)), np.zeros((count, 1))
            scale = np.ones((count, 1))
        else:
            z = np.arange(-_REACH, _REACH, _STEP) + _STEP * rng.uniform(size=(count, 1))
            log_prior = -0.5 * z**2 - 0.5 * np.log(2.0 * np.pi) + np.log(_STEP)
            scale = np.exp(self.scale_sd[:, None] * z)
        root = np.linalg.cholesky(self.scaled)
        apart = np.concatenate([self.fixed, (log_response - self.mean)[:, :, None]], axis=2)
        solved = np.linalg.solve(root, apart)
        within = np.linalg.solve(root, np.swapaxes(solved[:, :, :-1], 1, 2))
        value, vector = np.linalg.eigh(within)
        square = np.einsum("dij,di->dj", vector, solved[:, :, -1]) ** 2
        found = log_prior - np.log(np.diagonal(root, axis1=1, axis2=2)).sum(axis=1)[:, None]
        found -= 0.5 * log_response.size * np.log(2.0 * np.pi)
        for e, t in zip(np.maximum(value, 0.0).T, square.T, strict=True):
            total = e[:, None] + scale**2
            found -= 0.5 * (t[:, None] / total + np.log(total))
        return Weighed(self, log_response, z, found)


@dataclass(frozen=True)
class Weighed:
    """Rows with what they measured.

    Attributes
    ----------
    rows, log_response
        Both.
    z, log_share
        The nodes, and the logarithm of what each has of the density; shape ``(draws, nodes)``.
    """

    rows: SuiteRows
    log_response: np.ndarray
    z: np.ndarray
    log_share: np.ndarray

    def log_density(self) -> np.ndarray:
        """Return the log density of the rows given each draw; shape ``(draws,)``."""
        most = self.log_share.max(axis=1)
        return np.asarray(most + np.log(np.exp(self.log_share - most[:, None]).sum(axis=1)))

    def draw_z(self, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a draw of z for each of some draws, given the rows; shape ``(chosen,)``."""
        share = np.exp(self.log_share[chosen] - self.log_share[chosen].max(axis=1, keepdims=True)).cumsum(axis=1)
        node = (share < rng.uniform(size=(len(chosen), 1)) * share[:, -1:]).sum(axis=1)
        return np.asarray(self.z[chosen, node])

    def draw_normals(self, chosen: np.ndarray, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a draw of v for each of some draws, given the rows and z; shape ``(chosen, normals)``."""
        rows = self.rows
        scale = np.ones(len(z)) if rows.scale_sd is None else np.exp(rows.scale_sd[chosen] * z)
        root = np.linalg.cholesky(rows.fixed[chosen] + scale[:, None, None] ** 2 * rows.scaled[chosen])
        left = (self.log_response - rows.mean[chosen])[:, :, None]
        solved = np.linalg.solve(root, np.concatenate([rows.columns[chosen], left], axis=2))
        weights, left = solved[:, :, :-1], solved[:, :, -1]
        middle = np.einsum("drm,dr->dm", weights, left)
        value, vector = np.linalg.eigh(np.eye(weights.shape[2]) - np.swapaxes(weights, 1, 2) @ weights)
        step = np.sqrt(np.maximum(value, 0.0)) * rng.standard_normal(value.shape)
        return np.asarray(middle + np.einsum("dij,dj->di", vector, step))
