"""How chains are sampled."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """The sampler's settings.

    Attributes
    ----------
    draws, most
        Kept draws of each chain. While R-hat or ESS is out of bounds as many again are added, up to `most`.
    tune
        Warm-up transitions of each chain, under NUTS.
    chains
        How many there are.
    target_accept
        Of NUTS, the acceptance probability that the step size is adapted to.
    random_seed
        From 0 to 2³² − 1.
    """

    draws: int
    most: int
    tune: int
    chains: int
    target_accept: float
    random_seed: int
