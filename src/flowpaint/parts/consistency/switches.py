"""What the released FRESCO does and what its paper says, switch by switch; and in which steps each part is active."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Literal, get_args

from ...errors import ConfigError

Compat = Literal["auto", "official", "paper", "cpu", "small"]
SpatialNorm = Literal["l1", "l2sq"]


@dataclass(frozen=True, kw_only=True)
class Switches:
    """FRESCO's numbers; the defaults are those of the released code. `dataclasses.replace` turns one alone.

    Windows are shares of the schedule, so that they fit any number of steps; the released ones are 1, 15 and 16 to 18 of 20.
    """

    spatial_temperature: float = 5.0  # lambda_s: the code multiplies K by 0.2
    temporal_temperature: float = 5.0  # lambda_t
    spatial_share: float = 0.05  # of the schedule, from the first step that runs: one of 20
    temporal_until: float = 350.0  # diffusion time of 1000, so it needs no rescaling
    optimise_share: float = 0.75  # of the schedule
    background_from: float = 0.8
    background_to: float = 0.9
    iterations: int = 20
    lr: float = 0.2
    temporal_weight: float = 2.0  # 0 leaves the loss out
    spatial_weight: float = 100.0
    spatial_norm: SpatialNorm = "l1"
    cyclic_pairs: bool = True  # the last frame is compared with the first
    both_directions: bool = True
    adain_eps: float = 1.0  # added to the wanted variance; the code means 1e-5 but its argument lands elsewhere
    occlusion_growth: int = 13  # side of the box, pictures only
    saliency_growth: int = 7

    def __post_init__(self) -> None:
        shares = (self.spatial_share, self.optimise_share, self.background_from, self.background_to)
        if not all(0.0 <= share <= 1.0 for share in shares) or self.background_from > self.background_to:
            raise ConfigError(f"The step windows {shares} are no shares of a schedule. Give rising numbers from 0 to 1.")
        if min(self.spatial_temperature, self.temporal_temperature, self.lr) <= 0 or self.adain_eps < 0:
            raise ConfigError(
                "Temperatures and the learning rate must be above 0, adain_eps not below. Raise the one that is not."
            )
        if self.spatial_norm not in get_args(SpatialNorm):
            raise ConfigError(f"spatial_norm {self.spatial_norm!r} is not known. Give l1 or l2sq.")
        if self.iterations < 0 or min(self.temporal_weight, self.spatial_weight) < 0:
            raise ConfigError("Iterations and loss weights cannot be negative. Give 0 to leave a loss out.")
        if any(side < 1 or side % 2 == 0 for side in (self.occlusion_growth, self.saliency_growth)):
            raise ConfigError("A box has no centre unless its side is odd. Give 1 for no growth, or 3, 5, 7, ...")


SWITCHES: Mapping[str, Switches] = MappingProxyType(
    {
        "official": Switches(),
        "paper": Switches(
            spatial_share=1.0,  # part of every FRESCO layer, at every step
            optimise_share=1.0,
            lr=0.4,
            temporal_weight=1.0,
            spatial_weight=50.0,
            spatial_norm="l2sq",
            cyclic_pairs=False,
            both_directions=False,
            adain_eps=1e-5,
        ),
        # The released numbers but for the norm of the spatial loss: its squares cost a third of the time, and little memory.
        "cpu": Switches(spatial_norm="l2sq"),
        # A network of some millions says less by its features, so they are bound in every step, with less of the source's
        # self-similarity, which held them where they were. Their deviations are below 1: a variance of 1 more would multiply
        # their contrast. Attention by the source's similarity makes pictures paler the longer it lasts.
        "small": Switches(
            spatial_share=0.4,
            temporal_until=0.0,
            optimise_share=1.0,
            iterations=10,
            lr=0.4,
            spatial_weight=10.0,
            spatial_norm="l2sq",
            adain_eps=1e-5,
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class Turned:
    """Every switch of `Switches` alone; None leaves it as `compat` has it."""

    spatial_temperature: float | None = None
    temporal_temperature: float | None = None
    spatial_share: float | None = None
    temporal_until: float | None = None
    optimise_share: float | None = None
    background_from: float | None = None
    background_to: float | None = None
    iterations: int | None = None
    lr: float | None = None
    temporal_weight: float | None = None
    spatial_weight: float | None = None
    spatial_norm: SpatialNorm | None = None
    cyclic_pairs: bool | None = None
    both_directions: bool | None = None
    adain_eps: float | None = None
    occlusion_growth: int | None = None
    saliency_growth: int | None = None

    def turn(self, switches: Switches) -> Switches:
        """`switches` with those that are set here. Raises `ConfigError` for values outside their range."""
        given = {one.name: getattr(self, one.name) for one in fields(Turned)}
        return replace(switches, **{name: value for name, value in given.items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class Active:
    """What one step does beside denoising. Cross-frame attention is always on."""

    spatial: bool  # spatial-guided attention
    temporal: bool  # temporal-guided attention
    optimise: bool  # features, and their background
    background: bool  # of the denoised estimate


def active(switches: Switches, step: int, *, num_steps: int, first: int, t: float) -> Active:
    """The parts that are on in step `step` of a schedule of `num_steps`, begun at step `first`, at diffusion time `t` of 1000.

    Windows keep their share of the schedule and at least one step, except those of share 0 and an optimisation that would be
    over before the first step. Raises `ConfigError` for a step outside the schedule.
    """
    if not 0 <= first <= step < num_steps:
        raise ConfigError(f"Step {step} is not one of {first} to {num_steps - 1}. Start the loop inside the schedule.")
    spatial = _steps(switches.spatial_share, num_steps)
    begin = min(int(switches.background_from * num_steps + 1e-6), num_steps - 1)
    length = _steps(switches.background_to - switches.background_from, num_steps)
    return Active(
        spatial=step < first + spatial,
        temporal=t >= switches.temporal_until,
        optimise=step < int(switches.optimise_share * num_steps + 1e-6),
        background=begin <= step < begin + length,
    )


def _steps(share: float, num_steps: int) -> int:
    """`share` of `num_steps`, halves up: at least one step of a share that is not 0."""
    return max(1, int(share * num_steps + 0.5 + 1e-6)) if share > 1e-9 else 0
