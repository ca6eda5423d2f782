"""Noise levels, steps, inversion and the loop: against diffusers' schedulers, closed forms and steps worked out by hand."""

import math
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMInverseScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    LCMScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from flowpaint.diffusion import plans
from flowpaint.diffusion.hooked import Hooks, current
from flowpaint.diffusion.levels import Level, Schedule
from flowpaint.diffusion.plans import FramePlan, Window
from flowpaint.diffusion.sampling import (
    add_noise,
    frame_noise,
    invert,
    noise_levels,
    sample,
    sample_frames,
    step,
    to_eps,
    to_x0,
)
from flowpaint.diffusion.solvers import FastSolver
from flowpaint.errors import ConfigError, InputError, ShapeError, WorkError
from flowpaint.seams import MemoryStore, Run

THEIRS = {"eps": "epsilon", "v": "v_prediction", "sample": "sample"}
BETAS = {"linear": "linear", "scaled_linear": "scaled_linear", "squared_cosine": "squaredcos_cap_v2"}
SPACINGS = ("leading", "trailing", "linspace")
TOLERANCE = {torch.float32: {"rtol": 1e-5, "atol": 1e-5}, torch.float64: {"rtol": 1e-11, "atol": 1e-11}}


def seeded(*shape, seed=0, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def network(x, t):
    """A smooth stand-in for a network: bounded, mixes pixels within a frame, never frames."""
    return torch.tanh(0.7 * x + 0.3 * x.roll(1, -1) + 0.001 * t)


def denoiser(prediction="eps"):
    return lambda x, t: to_x0(network(x, t.t), x, t, prediction)


def scheduler(cls, schedule, dtype=torch.float32):
    made = cls(
        num_train_timesteps=schedule.num_train,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        beta_schedule=BETAS[schedule.betas],
        timestep_spacing=schedule.spacing,
        steps_offset=schedule.steps_offset,
        prediction_type=THEIRS[schedule.prediction],
        rescale_betas_zero_snr=schedule.zero_terminal_snr,
        clip_sample=False,
        **({} if cls is DDPMScheduler else {"set_alpha_to_one": schedule.set_alpha_to_one}),
    )
    made.alphas_cumprod = made.alphas_cumprod.to(dtype)
    if dtype == torch.float64 and schedule.zero_terminal_snr:
        made.alphas_cumprod = torch.tensor(schedule.alpha_bar, dtype=dtype)  # theirs went through betas in float32
    if cls is not DDPMScheduler:
        made.final_alpha_cumprod = torch.ones((), dtype=dtype) if schedule.set_alpha_to_one else made.alphas_cumprod[0]
    return made


# -------------------------------------------------------------------------------------------------------------- schedules


@pytest.mark.parametrize("betas", BETAS)
def test_schedules_are_diffusers_own(betas):
    schedule = Schedule(betas=betas)
    ours = torch.tensor(schedule.alpha_bar)
    assert torch.equal(ours, scheduler(DDIMScheduler, schedule).alphas_cumprod)
    assert all(late < early for early, late in pairwise(schedule.alpha_bar))


def test_zero_terminal_snr_ends_in_noise_and_keeps_the_first_level():
    plain, rescaled = Schedule(), Schedule(zero_terminal_snr=True, prediction="v")
    assert rescaled.alpha_bar[-1] == 0.0
    assert rescaled.alpha_bar[0] == pytest.approx(plain.alpha_bar[0], rel=1e-12)
    assert plain.alpha_bar[-1] == pytest.approx(0.00466, abs=5e-6)
    assert (plain.alpha_bar[499], rescaled.alpha_bar[499]) == pytest.approx((0.2777, 0.2424), abs=5e-5)
    theirs = scheduler(DDIMScheduler, rescaled).alphas_cumprod.double().numpy()
    np.testing.assert_allclose(rescaled.alpha_bar, theirs, rtol=2e-4, atol=1e-9)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("num_steps", [2, 7, 20, 50, 333])
@pytest.mark.parametrize("offset", [0, 1])
def test_times_are_diffusers_own(spacing, num_steps, offset):
    schedule = Schedule(spacing=spacing, steps_offset=offset)
    theirs = scheduler(DDPMScheduler, schedule)
    theirs.set_timesteps(num_steps)
    steps = noise_levels(num_steps, schedule=schedule)
    assert [one.t.t for one in steps] == theirs.timesteps.tolist()
    assert [one.index for one in steps] == list(range(num_steps))
    assert all(one.t.alpha**2 + one.t.sigma**2 == pytest.approx(1.0, abs=1e-15) for one in steps)
    assert all(early.t_next == late.t for early, late in pairwise(steps))
    assert steps[-1].t_next == schedule.last


def test_stable_diffusion_times_as_fresco_counts_them():
    assert [one.t.t for one in noise_levels(20)] == [951 - 50 * j for j in range(20)]
    assert [one.t.t for one in noise_levels(20, schedule=Schedule(spacing="trailing"))] == [999 - 50 * j for j in range(20)]


@pytest.mark.parametrize(
    ("num_steps", "strength"), [(20, 1.0), (20, 0.85), (20, 0.75), (20, 0.6), (30, 0.33), (100, 0.29), (7, 0.15)]
)
def test_strength_counts_as_image_to_image_does(num_steps, strength):
    from diffusers import StableDiffusionImg2ImgPipeline

    theirs = DDIMScheduler(steps_offset=1)
    theirs.set_timesteps(num_steps)
    holder = type("Holder", (), {"scheduler": theirs})()
    wanted, _ = StableDiffusionImg2ImgPipeline.get_timesteps(holder, num_steps, strength, "cpu")
    found = noise_levels(num_steps, strength)
    assert [one.t.t for one in found] == wanted.tolist()
    assert found == noise_levels(num_steps)[-len(found) :]


def test_no_strength_leaves_the_source():
    assert noise_levels(20, 0.0) == ()
    x = seeded(2, 4, 3, 5)
    assert torch.equal(sample(denoiser(), x, (), run=Run()), x)
    assert torch.equal(invert(denoiser(), x, ()), x)


@pytest.mark.parametrize(
    ("schedule", "num_steps", "strength", "words"),
    [
        (Schedule(), 20, 1.01, r"outside 0\.\.1"),
        (Schedule(), 20, -0.1, r"outside 0\.\.1"),
        (Schedule(), 20, math.nan, r"outside 0\.\.1"),
        (Schedule(), 20, 0.04, "leaves none of 20 steps"),
        (Schedule(), 0, 1.0, "0 steps"),
        (Schedule(), -3, 1.0, "-3 steps"),
        (Schedule(), 1000, 1.0, "more than this schedule"),  # with the offset, the first would be time 1000
        (Schedule(spacing="trailing"), 1001, 1.0, "more than this schedule"),
        (Schedule(spacing="linspace"), 1001, 1.0, "more than this schedule"),
        (Schedule(spacing="linspace"), 1, 1.0, "clean picture"),
    ],
)
def test_steps_that_cannot_be_taken(schedule, num_steps, strength, words):
    with pytest.raises(InputError, match=words):
        noise_levels(num_steps, strength, schedule=schedule)


def test_every_time_can_be_a_step():
    assert [one.t.t for one in noise_levels(1000, schedule=Schedule(steps_offset=0))] == list(range(999, -1, -1))


@pytest.mark.parametrize(
    "values", [{"beta_start": 0.0}, {"beta_start": 0.5, "beta_end": 0.1}, {"num_train": 1}, {"spacing": "even"}, {"betas": "log"}]
)
def test_schedules_that_are_none(values):
    with pytest.raises(ConfigError):
        Schedule(**values)


def test_a_schedule_is_read_from_a_model():
    stock = PNDMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, skip_prk_steps=True)
    assert Schedule.from_config(dict(stock.config) | {"_class_name": "PNDMScheduler"}) == Schedule()
    wanted = Schedule(
        betas="squared_cosine", spacing="trailing", zero_terminal_snr=True, prediction="v", steps_offset=0, set_alpha_to_one=True
    )
    assert Schedule.from_config(scheduler(DDIMScheduler, wanted).config) == wanted
    assert Schedule.from_config({"_class_name": "DDPMScheduler"}).set_alpha_to_one


@pytest.mark.parametrize(
    "config",
    [
        {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
        {"beta_schedule": "sigmoid"},
        {"prediction_type": "flow_prediction"},
        {"trained_betas": [0.1, 0.2]},
        {"beta_start": "small"},
    ],
)
def test_a_schedule_that_is_not_known_is_refused(config):
    with pytest.raises(ConfigError):
        Schedule.from_config(config)


# ------------------------------------------------------------------------------------------------------ one step, parity


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction", THEIRS)
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("to_one", [False, True])
def test_every_step_is_that_of_ddim(dtype, spacing, prediction, eta, to_one):
    schedule = Schedule(spacing=spacing, prediction=prediction, set_alpha_to_one=to_one, landing="stride")
    theirs = scheduler(DDIMScheduler, schedule, dtype)
    theirs.set_timesteps(7)
    x = seeded(2, 4, 3, 5, dtype=dtype)
    for one in noise_levels(7, schedule=schedule):
        output, noise = network(x, one.t.t), seeded(2, 4, 3, 5, seed=one.index + 1, dtype=dtype)
        x0 = to_x0(output, x, one.t, prediction)
        wanted = theirs.step(output, one.t.t, x, eta=eta, variance_noise=noise if eta else None)
        torch.testing.assert_close(x0, wanted.pred_original_sample, **TOLERANCE[dtype])
        torch.testing.assert_close(step(x, x0, one.t, one.t_next, eta=eta, noise=noise), wanted.prev_sample, **TOLERANCE[dtype])
        x = wanted.prev_sample


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("prediction", THEIRS)
@pytest.mark.parametrize("num_steps", [7, 20])
def test_every_step_is_that_of_ddpm(dtype, spacing, prediction, num_steps):
    schedule = Schedule(spacing=spacing, prediction=prediction, set_alpha_to_one=True)
    theirs = scheduler(DDPMScheduler, schedule, dtype)
    theirs.set_timesteps(num_steps)
    x = seeded(2, 4, 3, 5, dtype=dtype)
    for one in noise_levels(num_steps, schedule=schedule):
        output, noise = network(x, one.t.t), seeded(2, 4, 3, 5, seed=one.index, dtype=dtype)
        wanted = theirs.step(output, one.t.t, x, generator=torch.Generator().manual_seed(one.index)).prev_sample
        found = step(x, to_x0(output, x, one.t, prediction), one.t, one.t_next, eta=1.0, noise=noise)
        tolerance = TOLERANCE[dtype] | {"atol": max(1e-9, TOLERANCE[dtype]["atol"])}  # they add 1e-10 noise at the end
        torch.testing.assert_close(found, wanted, **tolerance)
        x = wanted


@pytest.mark.parametrize("cls", [DDIMScheduler, DDPMScheduler])
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("prediction", ["v", "sample"])
def test_pure_noise_at_the_start_is_stepped_from(cls, dtype, prediction):
    schedule = Schedule(spacing="trailing", prediction=prediction, zero_terminal_snr=True, set_alpha_to_one=True)
    theirs = scheduler(cls, schedule, dtype)
    theirs.set_timesteps(20)
    x = seeded(1, 4, 3, 5, dtype=dtype)
    for one in noise_levels(20, schedule=schedule):
        output, noise = network(x, one.t.t), seeded(1, 4, 3, 5, seed=one.index, dtype=dtype)
        draw = torch.Generator().manual_seed(one.index)
        eta = 0.3 if cls is DDIMScheduler else 1.0  # theirs gives NaN here at eta 1: the root of -1e-8
        given = {"eta": eta, "variance_noise": noise} if cls is DDIMScheduler else {"generator": draw}
        wanted = theirs.step(output, one.t.t, x, **given).prev_sample
        found = step(x, to_x0(output, x, one.t, prediction), one.t, one.t_next, eta=eta, noise=noise)
        tolerance = TOLERANCE[dtype] | {"atol": max(1e-9, TOLERANCE[dtype]["atol"])}
        torch.testing.assert_close(found, wanted, **tolerance)
        x = wanted


def test_noise_is_added_as_diffusers_adds_it():
    x0, noise = seeded(3, 4, 3, 5), seeded(3, 4, 3, 5, seed=1)
    theirs = scheduler(DDPMScheduler, Schedule())
    for one in noise_levels(20):
        wanted = theirs.add_noise(x0, noise, torch.tensor([one.t.t] * 3))
        torch.testing.assert_close(add_noise(x0, one.t, noise), wanted, rtol=1e-6, atol=1e-6)
    shared = add_noise(x0, one.t, noise[:1])
    torch.testing.assert_close(shared, theirs.add_noise(x0, noise[:1].expand_as(x0), torch.tensor([one.t.t] * 3)))


@pytest.mark.parametrize("strength", [1.0, 0.85, 0.4])
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_the_loop_from_a_noised_source_is_that_of_ddim(strength, eta):
    schedule, run = Schedule(), Run(seed=3)
    times = noise_levels(20, strength, schedule=schedule)
    theirs = scheduler(DDIMScheduler, schedule)
    theirs.set_timesteps(20)
    source = seeded(3, 4, 3, 5)
    start = frame_noise(run, range(3), source, shared=True)
    wanted = theirs.add_noise(source, start, torch.tensor([times[0].t.t] * 3))
    found = add_noise(source, times[0].t, start)
    for one in times:
        noise = frame_noise(run, range(3), source, step=one.index + 1)
        output = network(wanted, one.t.t)
        wanted = theirs.step(output, one.t.t, wanted, eta=eta, variance_noise=noise if eta else None).prev_sample
    torch.testing.assert_close(sample(denoiser(), found, times, run=run, eta=eta), wanted, rtol=1e-5, atol=3e-5)


def test_a_step_between_levels_of_a_rectified_flow():
    """alpha = 1 - s, sigma = s: a deterministic step is Euler's along eps - x0."""
    x0, eps = seeded(1, 4, 3, 5, dtype=torch.float64), seeded(1, 4, 3, 5, seed=1, dtype=torch.float64)
    here, there = Level(700, 0.3, 0.7), Level(500, 0.5, 0.5)
    x = add_noise(x0, here, eps)
    torch.testing.assert_close(step(x, x0, here, there), x + (0.5 - 0.7) * (eps - x0), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(to_x0(here.alpha * eps - here.sigma * x0, x, here, "v"), x0, rtol=1e-12, atol=1e-12)


def test_steps_that_cannot_be_made():
    x, one = seeded(1, 4, 2, 2), noise_levels(5)[0]
    for eta in (-0.1, 1.1):
        with pytest.raises(ConfigError, match=r"outside 0\.\.1"):
            step(x, x, one.t, one.t_next, eta=eta, noise=x)
    with pytest.raises(ConfigError, match="needs noise"):
        step(x, x, one.t, one.t_next, eta=0.5)
    with pytest.raises(InputError, match="adds noise"):
        step(x, x, one.t_next, one.t, eta=0.5, noise=x)
    with pytest.raises(InputError, match="clean level"):
        to_eps(x, x, Level(0, 1.0, 0.0))
    with pytest.raises(ConfigError, match="pure noise"):
        to_x0(x, x, Level(999, 0.0, 1.0), "eps")


# ------------------------------------------------------------------------------------------------------------- Gaussian


def gaussian(mean, deviation):
    """The perfect denoiser of x0 ~ N(mean, deviation^2): the conditional mean of x0 given x."""

    def denoise(x, t):
        gain = t.alpha * deviation**2 / (t.alpha**2 * deviation**2 + t.sigma**2)
        return mean + gain * (x - t.alpha * mean)

    return denoise


def test_ddim_carries_a_gaussian_along_its_flow():
    """The flow of a Gaussian is known: x_t = alpha m + sqrt(alpha^2 s^2 + sigma^2) z for one fixed z."""
    mean, deviation = 0.8, 0.5
    schedule = Schedule(set_alpha_to_one=True, steps_offset=0)
    z = seeded(1, 4, 8, 8, dtype=torch.float64)
    errors = []
    for num_steps in (50, 500):
        times = noise_levels(num_steps, schedule=schedule)
        spread = math.sqrt(times[0].t.alpha ** 2 * deviation**2 + times[0].t.sigma ** 2)
        found = sample(gaussian(mean, deviation), times[0].t.alpha * mean + spread * z, times, run=Run())
        errors.append((found - (mean + deviation * z)).abs().max().item())
    assert errors[1] < 0.015
    assert errors[1] < errors[0] / 5  # first order


@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize("num_steps", [5, 40])
def test_random_steps_of_a_gaussian_have_the_variance_that_follows(eta, num_steps):
    """Every step is linear in x, so the variance goes along: Song et al., Eq. 12 and 16, in their alphas."""
    mean, deviation = 0.8, 0.5
    times = noise_levels(num_steps, schedule=Schedule(set_alpha_to_one=True))
    bar = times[0].t.alpha ** 2
    variance = bar * deviation**2 + 1 - bar
    start = bar**0.5 * mean + variance**0.5 * seeded(1, 4, 128, 128, seed=5)
    for one in times:
        bar, after = one.t.alpha**2, one.t_next.alpha**2
        spread = eta**2 * (1 - after) / (1 - bar) * (1 - bar / after)
        gain = bar**0.5 * deviation**2 / (bar * deviation**2 + 1 - bar)
        slope = after**0.5 * gain + (1 - after - spread) ** 0.5 * (1 - bar**0.5 * gain) / (1 - bar) ** 0.5
        variance = slope**2 * variance + spread
    found = sample(gaussian(mean, deviation), start, times, run=Run(seed=1), eta=eta)
    assert found.mean().item() == pytest.approx(mean, abs=0.005)
    assert found.std().item() == pytest.approx(variance**0.5, rel=0.01)
    assert abs(variance**0.5 - deviation) < (0.06 if num_steps == 40 else 0.3)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_a_known_picture_is_reached_exactly(eta):
    picture = seeded(2, 4, 3, 5, seed=9)
    times = noise_levels(6, schedule=Schedule(set_alpha_to_one=True))
    found = sample(lambda x, t: picture, seeded(2, 4, 3, 5), times, run=Run(), eta=eta)
    torch.testing.assert_close(found, picture, rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------ inversion


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("num_steps", [10, 50])
def test_inversion_is_that_of_ddim_inverse(dtype, num_steps):
    schedule = Schedule(set_alpha_to_one=True, steps_offset=0)
    theirs = scheduler(DDIMInverseScheduler, schedule, dtype)
    theirs.set_timesteps(num_steps)
    x0 = wanted = seeded(2, 4, 3, 5, dtype=dtype)
    for t in theirs.timesteps.tolist():
        wanted = theirs.step(network(wanted, t), t, wanted).prev_sample
    found = invert(denoiser(), x0, noise_levels(num_steps, schedule=schedule))
    torch.testing.assert_close(found, wanted, **TOLERANCE[dtype])


@pytest.mark.parametrize(
    "schedule", [Schedule(), Schedule(set_alpha_to_one=True), Schedule(spacing="linspace", landing="stride")]
)
@pytest.mark.parametrize("kind", ["network", "gaussian"])
def test_inversion_then_sampling_returns_the_input(schedule, kind):
    denoise = denoiser() if kind == "network" else gaussian(0.8, 0.5)
    x0 = 0.8 + 0.5 * seeded(2, 4, 3, 5, dtype=torch.float64)
    times = noise_levels(50, 0.8, schedule=schedule)
    errors = []
    for refine in (0, 60):
        noisy = invert(denoise, x0, times, refine=refine)
        errors.append((sample(denoise, noisy, times, run=Run()) - x0).abs().max().item())
    assert errors[0] < 0.35
    assert errors[1] < 1e-6


def test_inversion_of_a_known_picture_needs_no_refinement():
    """A network whose noise does not hang on x: the plain inversion is exact."""
    eps = seeded(1, 4, 3, 5, dtype=torch.float64)
    x0, times = seeded(1, 4, 3, 5, seed=1, dtype=torch.float64), noise_levels(20)

    def denoise(x, t):
        return to_x0(eps, x, t, "eps")

    noisy = invert(denoise, x0, times)
    torch.testing.assert_close(sample(denoise, noisy, times, run=Run()), x0, rtol=1e-10, atol=1e-10)


def test_inversion_reaches_pure_noise_of_zero_terminal_snr():
    schedule = Schedule(spacing="trailing", zero_terminal_snr=True, prediction="v", set_alpha_to_one=True)
    times = noise_levels(20, schedule=schedule)
    x0 = 0.8 + 0.5 * seeded(1, 4, 3, 5, dtype=torch.float64)
    noisy = invert(gaussian(0.8, 0.5), x0, times, refine=60)
    assert torch.isfinite(noisy).all()
    torch.testing.assert_close(sample(gaussian(0.8, 0.5), noisy, times, run=Run()), x0, rtol=1e-6, atol=1e-6)
    with pytest.raises(InputError, match="in one step"):
        invert(gaussian(0.8, 0.5), x0, noise_levels(1, schedule=schedule))


def test_inversion_shows_each_level_on_the_way():
    times, seen, told = noise_levels(5, 0.8), [], []

    def denoise(x, t):
        told.append((current().step, current().num_steps, current().t, current().frames))
        return denoiser()(x, t)

    found = invert(denoise, seeded(1, 4, 3, 5), times, frames=[6], on_step=lambda x, one: seen.append((x, one.index)))
    assert [index for _, index in seen] == [4, 3, 2, 1]
    assert told == [(place, 4, times[place].t.t, (6,)) for place in (3, 2, 1, 0)]
    assert current().frames == ()
    assert torch.equal(seen[-1][0], found)
    with pytest.raises(InputError, match="Give 0 or more"):
        invert(denoiser(), found, times, refine=-1)


# ------------------------------------------------------------------------------------------------------ editable estimate


@pytest.mark.parametrize("mode", ["keep_eps", "consistent_eps"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_an_edited_estimate_by_hand(mode, eta):
    (one,) = noise_levels(4)[1:2]
    x, run = seeded(2, 4, 3, 5, dtype=torch.float64), Run(seed=2)
    output = network(x, one.t.t)
    a, s, an, sn = one.t.alpha, one.t.sigma, one.t_next.alpha, one.t_next.sigma
    x0 = (x - s * output) / a
    edited = x0 + 0.25
    eps = output if mode == "keep_eps" else (x - a * edited) / s
    deviation = eta * sn / s * math.sqrt(1 - a**2 / an**2)
    noise = torch.stack([torch.randn(4, 3, 5, generator=run.generator(frame, one.index + 1)) for frame in (0, 1)])
    wanted = an * edited + math.sqrt(sn**2 - deviation**2) * eps + deviation * noise.double()
    seen = []

    def edit(x0, eps, state):
        seen.append((x0.clone(), eps.clone(), state))
        eps.zero_()  # in place, as a careless hook would
        return x0.add_(0.25)

    found = sample(denoiser(), x, [one], run=run, eta=eta, on_denoised=edit, mode=mode)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    ((seen_x0, seen_eps, state),) = seen
    torch.testing.assert_close((seen_x0, seen_eps), (x0, output), rtol=1e-10, atol=1e-10)
    assert (state.step, state.num_steps, state.t, state.frames, state.at.index) == (0, 1, one.t.t, (0, 1), 1)


def test_consistent_noise_with_eta_1_is_ddpms_posterior():
    """Ho et al., Eq. 7, with the edited estimate in place of the network's."""
    schedule = Schedule(set_alpha_to_one=True)
    one = noise_levels(20, schedule=schedule)[16]
    x, edited, noise = (seeded(1, 4, 3, 5, seed=seed, dtype=torch.float64) for seed in range(3))
    bar, bar_next = one.t.alpha**2, one.t_next.alpha**2
    beta = 1 - bar / bar_next
    mean = (bar_next**0.5 * beta * edited + (bar / bar_next) ** 0.5 * (1 - bar_next) * x) / (1 - bar)
    wanted = mean + ((1 - bar_next) / (1 - bar) * beta) ** 0.5 * noise
    torch.testing.assert_close(step(x, edited, one.t, one.t_next, eta=1.0, noise=noise), wanted, rtol=1e-11, atol=1e-11)


def test_an_untouched_estimate_changes_nothing():
    times, x = noise_levels(6), seeded(2, 4, 3, 5, dtype=torch.float64)
    plain = sample(denoiser(), x, times, run=Run(), eta=1.0)
    for mode in ("keep_eps", "consistent_eps"):
        same = sample(denoiser(), x, times, run=Run(), eta=1.0, on_denoised=lambda x0, eps, state: x0, mode=mode)
        torch.testing.assert_close(same, plain, rtol=1e-10, atol=1e-10)


# ------------------------------------------------------------------------------------------------------------------ plans


def framed(plan):
    return [(window.frames, tuple(sorted(window.anchors))) for window in plan.windows]


def test_anchor_chains_are_frescos_index_sets():
    assert framed(plans.anchor_chain(1, 8)) == [((0,), ())]
    assert framed(plans.anchor_chain(2, 8)) == [((0, 1), ())]
    assert framed(plans.anchor_chain(8, 8)) == [(tuple(range(8)), ())]
    assert framed(plans.anchor_chain(9, 8)) == [(tuple(range(8)), ()), ((0, 7, 8), (0, 7))]
    assert framed(plans.anchor_chain(16, 8)) == [
        (tuple(range(8)), ()),
        ((0, 7, 8, 9, 10, 11, 12, 13), (0, 7)),
        ((0, 13, 14, 15), (0, 13)),
    ]
    assert framed(plans.anchor_chain(5, 3))[1:] == [((0, 2, 3), (0, 2)), ((0, 3, 4), (0, 3))]


def test_other_plans():
    assert framed(plans.chunks(5, 2)) == [((0, 1), ()), ((2, 3), ()), ((4,), ())]
    assert framed(plans.sequential(4)) == [((0,), ()), ((0, 1), (0,)), ((0, 1, 2), (0, 1)), ((0, 2, 3), (0, 2))]
    assert framed(plans.prefixed(6, 3)) == [((0, 1, 2), ()), ((0, 3, 4), (0,)), ((0, 5), (0,))]
    assert framed(plans.sliding(7, 4, 2)) == [((0, 1, 2, 3), ()), ((2, 3, 4, 5), ()), ((3, 4, 5, 6), ())]
    assert framed(plans.sliding(3, 4, 2)) == [((0, 1, 2), ())]
    assert framed(plans.one_window(3)) == [((0, 1, 2), ())]


@pytest.mark.parametrize("num_frames", [1, 2, 3, 8, 9, 17])
@pytest.mark.parametrize("size", [3, 4, 8])
def test_every_frame_is_kept_once(num_frames, size):
    for plan in (plans.anchor_chain(num_frames, size), plans.chunks(num_frames, size), plans.prefixed(num_frames, size)):
        kept = [frame for window in plan.windows for frame in window.kept]
        assert sorted(kept) == list(range(num_frames))
        assert max(len(window.frames) for window in plan.windows) <= size


def test_random_chunks_hang_on_seed_and_step_alone():
    plan, times = plans.random_chunks(10, 4), noise_levels(8)
    drawn = [plan.at(one, Run(seed=1)) for one in times]
    assert drawn == [plan.at(one, Run(seed=1)) for one in times]
    assert len(set(drawn)) > 1
    assert drawn != [plan.at(one, Run(seed=2)) for one in times]
    assert all(sorted(frame for window in windows for frame in window.frames) == list(range(10)) for windows in drawn)
    assert all(len(window.frames) <= 4 for windows in drawn for window in windows)


@pytest.mark.parametrize(
    "build",
    [
        lambda: Window(frames=()),
        lambda: Window(frames=(1, 1)),
        lambda: Window(frames=(1, 2), anchors=frozenset({3})),
        lambda: FramePlan(num_frames=3, windows=(Window(frames=(0, 1)),)),  # frame 2 is lost
        lambda: FramePlan(num_frames=1, windows=(Window(frames=(0, 1)),)),  # frame 1 is not there
        lambda: FramePlan(num_frames=2, windows=(Window(frames=(0, 1)), Window(frames=(1,)))),  # kept twice
        lambda: FramePlan(num_frames=2, windows=(Window(frames=(0, 1), anchors=frozenset({1})), Window(frames=(1,)))),
        lambda: FramePlan(num_frames=2, windows=(), redraw=lambda one, generator: ()),
        lambda: plans.anchor_chain(9, 2),
        lambda: plans.chunks(9, 0),
        lambda: plans.prefixed(9, 1),
        lambda: plans.sliding(9, 2, 3),
        lambda: plans.random_chunks(9, 0),
    ],
)
def test_plans_that_cannot_be(build):
    with pytest.raises(ConfigError):
        build()


# ------------------------------------------------------------------------------------------------------------- frame loop


def alone(_):
    return denoiser()


def mixing(_):
    """A denoiser whose frames look at each other: every frame is drawn to the mean of its call."""
    return lambda x, t: 0.5 * to_x0(network(x, t.t), x, t, "eps") + 0.5 * x.mean(0, keepdim=True)


@pytest.mark.parametrize("num_frames", [1, 2, 7, 9])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_windows_do_not_matter_where_frames_are_alone(num_frames, eta):
    times, x, run = noise_levels(5), seeded(num_frames, 4, 3, 5), Run(seed=7)
    whole = sample(denoiser(), x, times, run=run, eta=eta)
    for plan in (
        plans.anchor_chain(num_frames, 4),
        plans.sequential(num_frames),
        plans.chunks(num_frames, 2),
        plans.chunks(num_frames, 2, order="step"),
        plans.sliding(num_frames, 4, 2),
        plans.random_chunks(num_frames, 3),
        replace(plans.anchor_chain(num_frames, 4), order="step"),
    ):
        found = sample_frames(alone, x, times, plan, run=run, eta=eta)
        torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)


def test_the_windows_of_a_run_are_those_of_the_plan():
    times, x = noise_levels(2), seeded(5, 4, 2, 2)
    for order, wanted in (
        ("window", [(0, 0), (0, 1), (1, 0), (1, 1)]),
        ("step", [(0, 0), (1, 0), (0, 1), (1, 1)]),
    ):
        seen = []

        def watched(state, seen=seen):
            assert current() is state  # hooks of the network are told
            seen.append((state.window, state.step))
            return denoiser()

        plan = plans.chunks(5, 3, order=order)
        progress = []
        run = Run(progress=lambda stage, done, total, progress=progress: progress.append((stage, done, total)))
        sample_frames(watched, x, times, plan, run=run)
        assert seen == wanted
        total = 4 if order == "window" else 2
        assert progress == [("denoise", done + 1, total) for done in range(total)]
    assert current().frames == ()


def test_anchors_are_what_they_were_at_that_step():
    """The chain by hand: frame 0 and 2 go through the second window as the first one left them before each step."""
    times, x, run = noise_levels(4), seeded(5, 4, 3, 5), Run()
    first, past = x[:3], []
    for one in times:
        past.append(first[[0, 2]])
        first = step(first, mixing(None)(first, one.t), one.t, one.t_next)
    new = x[3:]
    for one, anchors in zip(times, past, strict=True):
        batch = torch.cat([anchors, new])
        new = step(batch, mixing(None)(batch, one.t), one.t, one.t_next)[2:]
    plan = FramePlan(num_frames=5, windows=(Window(frames=(0, 1, 2)), Window(frames=(0, 2, 3, 4), anchors=frozenset({0, 2}))))
    found = sample_frames(mixing, x, times, plan, run=run)
    torch.testing.assert_close(found, torch.cat([first, new]), rtol=1e-6, atol=1e-6)
    stepwise = sample_frames(mixing, x, times, replace(plan, order="step"), run=run)
    torch.testing.assert_close(stepwise, found, rtol=1e-6, atol=1e-6)


def test_anchors_do_not_hold_what_a_hook_writes():
    times, x, plan = noise_levels(3), seeded(5, 4, 3, 5), plans.anchor_chain(5, 3)

    def scaled(x, state, when):
        return 0.5 * x if when == "before" else x

    def in_place(x, state, when):
        return x.mul_(0.5) if when == "before" else x

    one, two = (sample_frames(mixing, x, times, plan, run=Run(), hooks=Hooks(latents=touch)) for touch in (scaled, in_place))
    assert torch.equal(one, two)


@pytest.mark.parametrize("mode", ["keep_eps", "consistent_eps"])
def test_overlapping_windows_agree_on_an_edit(mode):
    times, x = noise_levels(3), seeded(5, 4, 3, 5)
    hooks = Hooks(denoised=lambda x0, eps, state: 0.9 * x0, mode=mode)
    one, two = (
        sample_frames(alone, x, times, plan, run=Run(), hooks=hooks) for plan in (plans.one_window(5), plans.sliding(5, 3, 1))
    )
    torch.testing.assert_close(one, two, rtol=1e-5, atol=1e-5)


def test_overlapping_windows_are_averaged():
    (one,) = noise_levels(4)[:1]
    x = seeded(3, 4, 3, 5, dtype=torch.float64)
    parts = [mixing(None)(x[a : a + 2], one.t) for a in (0, 1)]
    x0 = torch.stack([parts[0][0], (parts[0][1] + parts[1][0]) / 2, parts[1][1]])
    found = sample_frames(mixing, x, [one], plans.sliding(3, 2, 1), run=Run())
    torch.testing.assert_close(found, step(x, x0, one.t, one.t_next), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["keep_eps", "consistent_eps"])
def test_an_edit_is_the_same_in_both_orders(mode):
    times, x = noise_levels(5), seeded(4, 4, 3, 5)
    hooks = Hooks(denoised=lambda x0, eps, state: 0.9 * x0 + 0.01 * state.step, mode=mode)
    runs = [
        sample_frames(alone, x, times, plans.chunks(4, 2, order=order), run=Run(), eta=1.0, hooks=hooks)
        for order in ("window", "step")
    ]
    torch.testing.assert_close(runs[0], runs[1], rtol=1e-6, atol=1e-6)
    other = replace(hooks, mode="keep_eps" if mode == "consistent_eps" else "consistent_eps")
    assert not torch.allclose(runs[0], sample_frames(alone, x, times, plans.one_window(4), run=Run(), eta=1.0, hooks=other))


@pytest.mark.parametrize("order", ["window", "step"])
def test_latents_can_be_touched(order):
    times, x, seen = noise_levels(2), seeded(3, 4, 2, 2), []

    def touch(x, state, when):
        seen.append((when, state.window, state.frames, state.step, state.is_last))
        return x.add_({"init": 1.0, "before": 0.1, "after": 0.01}[when])

    found = sample_frames(alone, x, times, plans.chunks(3, 2, order=order), run=Run(), hooks=Hooks(latents=touch))
    wanted = x + 1.0
    for one in times:
        wanted = wanted + 0.1
        wanted = step(wanted, denoiser()(wanted, one.t), one.t, one.t_next) + 0.01
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(x, seeded(3, 4, 2, 2))
    assert seen[0] == ("init", -1, (0, 1, 2), 0, False)
    assert [one[0] for one in seen].count("before") == 4
    assert [one[0] for one in seen].count("after") == (4 if order == "window" else 2)
    assert ("before", 1, (2,), 1, True) in seen


# ------------------------------------------------------------------------------------------------------------------ noise


def test_noise_hangs_on_seed_frame_and_step_alone():
    like = torch.zeros(1, 4, 3, 5)
    run = Run(seed=4)
    all_frames = frame_noise(run, range(6), like, step=2)
    assert torch.equal(frame_noise(run, [3, 5], like, step=2), all_frames[[3, 5]])
    assert torch.equal(frame_noise(replace(run, offset=3), [0, 2], like, step=2), all_frames[[3, 5]])
    for other in (frame_noise(run, range(6), like, step=3), frame_noise(Run(seed=5), range(6), like, step=2)):
        assert (other - all_frames).abs().mean() > 0.5
    assert (all_frames[0] - all_frames[1]).abs().mean() > 0.5
    shared = frame_noise(run, range(3), like, shared=True)
    assert torch.equal(shared[0], shared[2])
    assert torch.equal(shared[0], torch.randn(4, 3, 5, generator=run.generator(0, 0)))
    assert frame_noise(run, [0], like.double()).dtype == torch.float64


def test_shared_noise_keeps_equal_frames_equal():
    times, x = noise_levels(5), seeded(1, 4, 3, 5).expand(3, -1, -1, -1)
    shared = sample(denoiser(), x, times, run=Run(), eta=1.0, shared_noise=True)
    assert torch.equal(shared[0], shared[2])
    own = sample(denoiser(), x, times, run=Run(), eta=1.0)
    assert not torch.allclose(own[0], own[2])


def test_half_precision_networks_leave_the_latents_alone():
    times, x, kinds = noise_levels(3), seeded(1, 4, 3, 5).half(), []

    def denoise(x, t):
        kinds.append(x.dtype)
        return denoiser()(x, t).bfloat16()

    assert sample(denoise, x, times, run=Run(), eta=1.0).dtype == torch.float32
    assert set(kinds) == {torch.float32}


def test_gradients_can_be_opened_inside():
    def denoise(x, t):
        assert not torch.is_grad_enabled()
        with torch.enable_grad():
            one = x.clone().requires_grad_()
            (grad,) = torch.autograd.grad((one**2).sum(), one)
        return x - 0.1 * grad

    assert torch.isfinite(sample(denoise, seeded(1, 4, 2, 2), noise_levels(2), run=Run())).all()


# ----------------------------------------------------------------------------------------------------------------- resume


class Killed(Exception):
    pass


@pytest.mark.parametrize("plan", [plans.anchor_chain(9, 4), plans.sliding(9, 4, 2)], ids=["window", "step"])
def test_a_killed_run_goes_on_where_it_stopped(plan):
    times, x, store = noise_levels(4), seeded(9, 4, 3, 5), MemoryStore()
    wanted = sample_frames(mixing, x, times, plan, run=Run(), eta=1.0)
    calls = []

    def counted(state):
        calls.append(state.window)
        return mixing(state)

    def until(limit):
        def denoise(state):
            if len(calls) >= limit:
                raise Killed
            return counted(state)

        return denoise

    with pytest.raises(Killed):
        sample_frames(until(10), x, times, plan, run=Run(store=store), eta=1.0, key="k")
    calls.clear()
    found = sample_frames(counted, x, times, plan, run=Run(store=store), eta=1.0, key="k")
    total = len(times) * len(plan.windows)
    assert torch.equal(found, wanted)
    assert len(calls) == total - 8
    calls.clear()
    assert torch.equal(sample_frames(counted, x, times, plan, run=Run(store=store), eta=1.0, key="k"), wanted)
    assert calls == []
    sample_frames(counted, x, times, plan, run=Run(store=store), eta=1.0)
    assert len(calls) == total


# ----------------------------------------------------------------------------------------------------------------- solvers


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in diffusers' own set_timesteps
@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize(("name", "cls"), [("unipc", UniPCMultistepScheduler), ("dpm++", DPMSolverMultistepScheduler)])
@pytest.mark.parametrize("strength", [1.0, 0.6])
def test_solvers_are_diffusers_own(name, cls, prediction, strength):
    theirs = cls(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type=THEIRS[prediction],
        timestep_spacing="leading",
        steps_offset=1,
    )
    theirs.set_timesteps(10)
    start = 10 - int(10 * strength)
    theirs.set_begin_index(start)
    x = wanted = seeded(3, 4, 3, 5)
    for t in theirs.timesteps[start:]:
        wanted = theirs.step(network(wanted, t.item()), t, wanted).prev_sample
    solver = FastSolver(name=name, num_steps=10, strength=strength)
    assert [one.t.t for one in solver.times] == theirs.timesteps[start:].tolist()
    for plan in (plans.chunks(3, 2), plans.chunks(3, 2, order="step")):
        found = sample_frames(lambda _: denoiser(prediction), x, solver.times, plan, run=Run(), solver=solver)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_latent_consistency_is_diffusers_own_with_noise_by_frame():
    theirs, run = LCMScheduler(prediction_type="epsilon"), Run(seed=3)
    theirs.set_timesteps(4)
    x = wanted = seeded(3, 4, 3, 5)
    for index, t in enumerate(theirs.timesteps):
        draws = [run.generator(frame, index + 1) for frame in range(3)]
        wanted = theirs.step(network(wanted, t.item()), t, wanted, generator=draws, return_dict=False)[0]
    solver = FastSolver(name="lcm", num_steps=4)
    found = sample_frames(alone, x, solver.times, plans.chunks(3, 2), run=run, solver=solver)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_solvers_take_an_edited_estimate():
    picture = seeded(2, 4, 3, 5, seed=9)
    for name in ("unipc", "dpm++"):
        solver = FastSolver(name=name, num_steps=6)
        hooks = Hooks(denoised=lambda x0, eps, state: picture)
        found = sample_frames(alone, seeded(2, 4, 3, 5), solver.times, plans.one_window(2), run=Run(), solver=solver, hooks=hooks)
        torch.testing.assert_close(found, picture, rtol=0, atol=1e-5)


def test_solvers_that_do_not_fit():
    for values, error in (
        ({"name": "euler", "num_steps": 5}, ConfigError),
        ({"name": "unipc", "num_steps": 0}, InputError),
        ({"name": "lcm", "num_steps": 51}, InputError),
    ):
        with pytest.raises(error):
            FastSolver(**values)
    solver, x = FastSolver(name="unipc", num_steps=4), seeded(2, 4, 2, 2)
    for times, plan, extra in (
        (noise_levels(4), plans.one_window(2), {}),
        (solver.times, plans.one_window(2), {"hooks": Hooks(mode="keep_eps")}),
        (solver.times, plans.chunks(2, 1, order="step"), {"key": "k"}),
    ):
        with pytest.raises(ConfigError):
            sample_frames(alone, x, times, plan, run=Run(), solver=solver, **extra)


@pytest.mark.slow
def test_diffusers_is_loaded_for_a_solver_alone():
    script = (
        "import sys; import flowpaint.diffusion.sampling, flowpaint.diffusion.solvers as s; "
        "s.FastSolver(name='unipc', num_steps=4); assert 'diffusers' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


# ---------------------------------------------------------------------------------------------------------------- refusals


def test_what_the_loop_refuses():
    times, x = noise_levels(3), seeded(2, 4, 3, 5)
    with pytest.raises(ConfigError, match="plan for 3"):
        sample_frames(alone, x, times, plans.one_window(3), run=Run())
    with pytest.raises(ConfigError, match="mode"):
        sample(denoiser(), x, times, run=Run(), mode="other")
    with pytest.raises(ShapeError):
        sample(denoiser(), x[0], times, run=Run())
    with pytest.raises(ShapeError):
        sample(lambda x, t: x[:1], x, times, run=Run())
    with pytest.raises(ShapeError):
        sample_frames(alone, x, times, plans.one_window(2), run=Run(), hooks=Hooks(latents=lambda x, state, when: x[:1]))
    with pytest.raises(WorkError, match="step 1 of 3 is not finite"):
        sample(lambda x, t: x / 0, x, times, run=Run())
    with pytest.raises(WorkError, match="not finite"):
        invert(lambda x, t: x * math.nan, x, times)
    with pytest.raises(ConfigError, match=r"outside 0\.\.1"):
        sample(denoiser(), x, times, run=Run(), eta=2.0)
