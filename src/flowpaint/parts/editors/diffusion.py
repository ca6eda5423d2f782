"""`DiffusionEditor`: one picture at a time through an image model, towards any words (SDEdit, Meng et al., ICLR 2022)."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...carry import finished
from ...diffusion.levels import add_noise
from ...diffusion.model import LatentDiffusion
from ...diffusion.plans import one_window
from ...diffusion.sampling import sample_frames
from ...diffusion.translate import Conditions, SolverChoice, check_translation, walk, with_control, working_size
from ...enlarge import enlarge
from ...errors import InputError
from ...seams import Run, default
from ...types import Edit, check_shape
from ...warp import resize


@dataclass(frozen=True, kw_only=True)
class DiffusionEditor:
    """A picture noised by `strength` and denoised towards the edit's words, ControlNets looking at `control` where there are any.

    It is denoised at a short side of `side` pixels (0: that of the model's training), in `num_steps` times `strength` steps of
    `solver`. Which ControlNet: `diffusion.translate.with_control`.
    """

    model: LatentDiffusion = default("model", "stable-diffusion")
    control: Conditions = field(default=(), metadata={"kind": "condition"})
    num_steps: int = 20
    strength: float = 0.75
    solver: SolverChoice = "ddim"
    guidance: float = 7.5
    side: int = 0

    def check(self) -> None:
        """Raises what an edit would raise later for steps, weights and ControlNets that cannot be or are not there."""
        check_translation(self.model, self.control, self.solver, self.num_steps, self.strength)

    @torch.no_grad()
    def __call__(self, image: Tensor, edit: Edit, generator: torch.Generator) -> Tensor:
        """The picture [3, H, W] in [0, 1] that the words of `edit` make of `image` [3, H, W].

        Raises `InputError` without words, `WeightsError` without a model.
        """
        check_shape(image=(image, "3 H W"))
        if edit.strength == 0:
            return image
        if not edit.prompt.strip():
            raise InputError("An image model needs words that say what the picture should show. Give a prompt.")
        model, control = with_control(self.model, self.control)
        size = working_size(model, image.shape[-2], image.shape[-1], self.side)
        model = model.within(*size)
        small = resize(image[None], *size)
        text = model.embed(edit, image.device)
        steps = walk(model.schedule, self.solver, self.num_steps, self.strength)
        encoded = model.encode(small)
        noise = torch.randn(encoded.shape, generator=generator).to(encoded)
        denoise = model.denoiser(text, [condition(small) for condition in control], guidance=self.guidance)
        latents = sample_frames(
            lambda _: denoise,
            add_noise(encoded, steps.times[0].t, noise) if self.strength < 1 else noise,
            steps.times,
            one_window(1),
            run=Run(device=str(image.device), seed=int(torch.randint(2**31, (), generator=generator))),
            eta=steps.eta,
            solver=steps.solver,
        )
        made = model.decode(latents, size)[0]
        return finished(enlarge(small[0], made, image), image, edit)
