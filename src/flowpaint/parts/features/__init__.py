"""Networks that see: one row of numbers for each picture or clip. Each is loaded when it is first asked."""

from .clip import ClipFeatures
from .maps import AlexFeatures, VggFeatures
from .scripted import C3dFeatures, I3dFeatures, InceptionFeatures

__all__ = ["AlexFeatures", "C3dFeatures", "ClipFeatures", "I3dFeatures", "InceptionFeatures", "VggFeatures"]
