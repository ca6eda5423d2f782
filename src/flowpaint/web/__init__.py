"""Jobs over HTTP: `create_app` makes the application that `flowpaint serve` runs, `Settings` say how.

The web server itself never opens an upload and never loads torch: what touches files runs in children (`children`, `child`).
"""

from .settings import Limits, Settings

__all__ = ["Limits", "Settings"]
