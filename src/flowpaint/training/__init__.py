"""Data and trainers of diffusion models: from pictures to a folder that `LatentDiffusion` opens."""
