"""Control maps: what of a clip's frames an edit has to keep. Edges without weights, learned edges, depth."""

from .depth import DepthAnything
from .edges import CannyEdges, SoftEdges
from .hed import HedEdges

__all__ = ["CannyEdges", "DepthAnything", "HedEdges", "SoftEdges"]
