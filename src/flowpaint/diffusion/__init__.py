"""The diffusion core: one contract, `denoise(x, t) -> x0`, and four places at which consistency enters."""
