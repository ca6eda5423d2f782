"""Procedural video with exact truth: flow, visibility, depth and masks known by construction, edits with known results."""

from .edits import edit, edit_mask
from .render import Frame, clip, relief, render
from .sample import sample_scene
from .scene import Layer, Scene
from .truth import boundary_distance, correspond, render_with_flow, track

__all__ = [
    "Frame",
    "Layer",
    "Scene",
    "boundary_distance",
    "clip",
    "correspond",
    "edit",
    "edit_mask",
    "relief",
    "render",
    "render_with_flow",
    "sample_scene",
    "track",
]
