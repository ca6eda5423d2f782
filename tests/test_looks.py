"""Looks, styles and picture files: pictures in, pictures out."""

import dataclasses
import struct
import zlib

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

from flowpaint import warp
from flowpaint.carry import to_size_of
from flowpaint.colour import luma, to_lab
from flowpaint.errors import ConfigError, InputError, VideoError
from flowpaint.parts.editors import LookEditor, PictureEditor, StyleEditor, catalogue, sheet
from flowpaint.parts.editors.entry import Style
from flowpaint.parts.editors.grades import Grade, graded
from flowpaint.parts.editors.looks import LOOKS
from flowpaint.types import Edit


def resized(picture, height, width):
    return warp.resize(picture[None], height, width)[0]


@pytest.fixture(scope="module")
def photo():
    return torch.from_numpy(skimage.data.astronaut().copy()).permute(2, 0, 1).float() / 255


def look(name, image, **edit):
    return LookEditor(looks=((name, 1.0),))(image, Edit(**edit), torch.Generator().manual_seed(3))


def named(kind):
    return [one.name for one in LOOKS if isinstance(one.recipe, kind)]


DRAWN = [one.name for one in LOOKS if not isinstance(one.recipe, (Grade, Style))]


def test_there_is_one_look_for_each_style_and_names_are_unique():
    assert sorted(one.recipe.index for one in LOOKS if isinstance(one.recipe, Style)) == list(range(26))
    assert len({one.name for one in LOOKS}) == len(LOOKS) == len(catalogue())
    assert len(LOOKS) - 26 >= 18


@pytest.mark.parametrize("name", [one.name for one in LOOKS])
def test_every_look_shows_and_keeps_the_range(name, photo):
    small = resized(photo, 96, 96)
    made = look(name, small)
    assert made.shape == small.shape
    assert made.min() >= 0 and made.max() <= 1 and made.isfinite().all()
    assert (made - small).abs().mean() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_a_drawing_is_the_same_at_any_size(name, photo):
    large, small = look(name, photo), look(name, resized(photo, 256, 256))
    blurred = [torch.nn.functional.avg_pool2d(one, 8 * one.shape[-1] // 256) for one in (large, small)]
    assert (blurred[0] - blurred[1]).abs().mean() < 0.06


@pytest.mark.parametrize("name", DRAWN)
def test_a_drawing_is_steady_under_noise(name, photo):
    crop = photo[:, :192, 128:320]
    noisy = crop + 0.004 * torch.randn(crop.shape, generator=torch.Generator().manual_seed(1))
    assert (look(name, noisy.clamp(0, 1)) - look(name, crop)).abs().mean() < 0.02


def pointwise(name):
    """A grade without its glow and its vignette, the two parts that look at more than one pixel."""
    recipe = next(one.recipe for one in LOOKS if one.name == name)
    return dataclasses.replace(recipe, glow=0.0, vignette=0.0)


@pytest.mark.parametrize("name", named(Grade))
def test_a_grade_is_a_function_of_the_pixel(name, photo):
    recipe = pointwise(name)
    crop = resized(photo, 64, 64)
    assert torch.allclose(graded(crop.flip(-1), recipe), graded(crop, recipe).flip(-1), atol=1e-6)
    assert torch.allclose(graded(crop[:, :5, :7], recipe), graded(crop, recipe)[:, :5, :7], atol=1e-6)


@pytest.mark.parametrize("name", named(Grade))
def test_a_grade_has_no_bands_and_keeps_the_order_of_tones(name):
    ramp = torch.linspace(0, 1, 4096).expand(3, 1, 4096)
    step = luma(graded(ramp, pointwise(name)))[0, 0].diff()
    assert step.min() > -1e-6
    assert step.max() < 6 / 4096


@pytest.mark.parametrize("name", named(Grade))
def test_a_grade_does_not_crush_skin(name):
    tones = torch.tensor([[0.96, 0.84, 0.75], [0.88, 0.68, 0.56], [0.72, 0.51, 0.39], [0.50, 0.34, 0.25], [0.30, 0.19, 0.14]])
    patches = tones.T[:, None, :, None].expand(3, 8, 5, 8).reshape(3, 8, 40)
    light = luma(look(name, patches))[0, 4, 4::8]
    assert (light.diff() < -0.02).all(), "lighter skin must stay lighter"
    assert light.min() > 0.03 and light.max() < 0.99


def test_black_and_white_has_no_colour(photo):
    made = look("black and white", photo)
    assert (made.amax(dim=0) - made.amin(dim=0)).max() < 1e-5


def test_kept_colours_are_the_source_s(photo):
    small = resized(photo, 96, 96)
    kept, plain = (to_lab(look("van gogh", small, keep_colors=keep)) for keep in (True, False))
    source = to_lab(small)
    assert (kept[1:] - source[1:]).abs().mean() < 0.4 * (plain[1:] - source[1:]).abs().mean()
    assert (kept[0] - plain[0]).abs().mean() < 0.5


def test_strength_is_a_mix_with_the_source(photo):
    small = resized(photo, 64, 64)
    assert torch.allclose(look("noir", small, strength=0.25), 0.75 * small + 0.25 * look("noir", small), atol=1e-6)


def test_a_blend_of_grades_is_the_weighted_mean(photo):
    small = resized(photo, 64, 64)
    both = LookEditor(looks=(("noir", 3.0), ("warm", 1.0)))(small, Edit(), torch.Generator())
    assert torch.allclose(both, 0.75 * look("noir", small) + 0.25 * look("warm", small), atol=1e-6)


def test_styles_blend_as_styles_not_as_pictures(photo):
    small = resized(photo, 96, 96)
    both = LookEditor(looks=(("van gogh", 0.5), ("mosaic", 0.5)))(small, Edit(), torch.Generator())
    assert (both - 0.5 * (look("van gogh", small) + look("mosaic", small))).abs().mean() > 0.02
    mostly = LookEditor(looks=(("van gogh", 1.0), ("mosaic", 1e-6)))(small, Edit(), torch.Generator())
    assert (mostly - look("van gogh", small)).abs().mean() < 1e-3


def test_a_large_picture_keeps_its_detail(photo):
    editor = LookEditor(looks=(("moonlight", 1.0),), short_side=256)
    made = editor(photo, Edit(), torch.Generator())
    enlarged = torch.nn.functional.interpolate(
        look("moonlight", resized(photo, 256, 256))[None], size=512, mode="bicubic", align_corners=False
    )[0]

    def fine(picture):
        return (luma(picture) - resized(resized(luma(picture), 256, 256), 512, 512)).square().mean()

    assert fine(made) > 1.3 * fine(enlarged)


@pytest.mark.parametrize("looks", [(), (("van gogh", 0.0),), (("van gogh", float("nan")),), (("no such look", 1.0),)])
def test_an_editor_refuses_looks_it_cannot_make(looks):
    with pytest.raises(ConfigError):
        LookEditor(looks=looks)


def test_detail_that_follows_the_source_is_put_back(photo):
    small = resized(photo, 128, 128)
    carried = to_size_of(photo, small, (0.5 * luma(small) + 0.2).expand(3, -1, -1), ridge=1e-6)
    wanted = 0.5 * luma(photo) + 0.2
    enlarged = torch.nn.functional.interpolate(0.5 * luma(small)[None] + 0.2, size=512, mode="bicubic")[0]
    assert (carried - wanted).square().mean() < 0.01 * (enlarged - wanted).square().mean()


def test_strokes_that_are_not_in_the_source_do_not_let_it_shine_through(photo):
    small = resized(photo, 128, 128)
    flat = torch.full_like(small, 0.4)
    assert (to_size_of(photo, small, flat) - 0.4).abs().max() < 1e-4


def test_the_sheet_shows_every_look(photo):
    page = sheet(resized(photo, 64, 80), width=32)
    assert page.dtype == np.uint8 and page.ndim == 3 and page.shape[-1] == 3
    assert page.shape[1] == 7 * 40 + 8
    assert page.shape[0] == -(-(len(LOOKS) + 1) // 7) * (26 + 30) + 8


# ----------------------------------------------------------------------------------------------------------- picture files


def write_png_header(path, width, height):
    """A PNG that only claims its size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    body = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize("editor", [StyleEditor, PictureEditor])
@pytest.mark.parametrize("kind", ["missing", "text", "empty", "cut", "huge", "folder", "nul"])
def test_a_file_that_is_no_picture_is_refused(editor, kind, tmp_path, photo):
    path = tmp_path / f"{kind}.png"
    if kind == "text":
        path.write_text("no picture at all")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        Image.fromarray(skimage.data.astronaut()[:64, :64]).save(path)
        path.write_bytes(path.read_bytes()[:2000])
    elif kind == "huge":
        write_png_header(path, 100_000, 100_000)
    elif kind == "folder":
        path.mkdir()
    name = "a\0b.png" if kind == "nul" else str(path)
    with pytest.raises(VideoError) as caught:
        editor(picture=name)(resized(photo, 64, 64), Edit(), torch.Generator())
    assert caught.value.exit_code == 4
    assert "Give" in str(caught.value) or "Check" in str(caught.value)


def test_the_pixel_limit_holds_before_decoding(tmp_path):
    write_png_header(tmp_path / "large.png", 10_000, 10_000)
    with pytest.raises(VideoError, match="claims 10000 x 10000"):
        PictureEditor(picture=str(tmp_path / "large.png"))(torch.zeros(3, 64, 64), Edit(), torch.Generator())


def test_a_picture_is_laid_on_the_frame(tmp_path, photo):
    Image.fromarray(skimage.data.astronaut()).resize((130, 128)).save(tmp_path / "edited.png")  # 1.6 % too wide
    made = PictureEditor(picture=str(tmp_path / "edited.png"))(photo[:, :64, :64], Edit(), torch.Generator())
    assert (made - resized(photo, 64, 64)).abs().mean() < 0.02


def test_a_picture_of_another_shape_is_refused(tmp_path, photo):
    Image.fromarray(skimage.data.astronaut()).resize((140, 128)).save(tmp_path / "edited.png")
    with pytest.raises(InputError, match="140 x 128") as caught:
        PictureEditor(picture=str(tmp_path / "edited.png"))(photo[:, :64, :64], Edit(), torch.Generator())
    assert caught.value.exit_code == 2


def test_a_picture_is_turned_upright(tmp_path):
    array = np.zeros((40, 20, 3), np.uint8)
    array[:10] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    Image.fromarray(array).save(tmp_path / "turned.png", exif=exif)
    made = PictureEditor(picture=str(tmp_path / "turned.png"))(torch.zeros(3, 20, 40), Edit(), torch.Generator())
    assert made[..., -9:].min() > 0.9 and made[..., :29].max() < 0.1


def test_a_style_picture_that_changes_is_read_again(tmp_path, photo):
    path, small = tmp_path / "style.png", resized(photo, 64, 64)
    made = []
    for picture in (skimage.data.astronaut()[:256], skimage.data.immunohistochemistry()):
        Image.fromarray(picture).save(path)
        made.append(StyleEditor(picture=str(path))(small, Edit(), torch.Generator()))
    assert (made[0] - made[1]).abs().mean() > 0.02


def test_a_style_in_tiles_has_the_tones_of_the_style_in_one_piece(tmp_path, photo):
    Image.fromarray(skimage.data.immunohistochemistry()).save(tmp_path / "style.png")
    whole, tiled = (
        StyleEditor(picture=str(tmp_path / "style.png"), short_side=side)(photo, Edit(), torch.Generator()) for side in (383, 512)
    )
    pooled = [torch.nn.functional.avg_pool2d(one, 64) for one in (whole, tiled)]
    assert (pooled[0] - pooled[1]).abs().max() < 0.05
