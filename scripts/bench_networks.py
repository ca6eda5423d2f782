"""Networks of Stable Diffusion 1.5's size with random weights, for benchmarks: made where they are needed, never downloaded."""

from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel


def sd15_unet() -> UNet2DConditionModel:
    """860 million parameters."""
    widths = (320, 640, 1280, 1280)
    made = UNet2DConditionModel(sample_size=64, block_out_channels=widths, cross_attention_dim=768, attention_head_dim=8)
    return made.eval().requires_grad_(False)


def sd15_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """361 million parameters."""
    return ControlNetModel.from_unet(unet, load_weights_from_unet=False).eval().requires_grad_(False)


def sd15_vae() -> AutoencoderKL:
    """84 million parameters."""
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    made = AutoencoderKL(**kinds, block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512)
    return made.eval().requires_grad_(False)
