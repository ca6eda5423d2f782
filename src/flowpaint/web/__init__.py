"""Jobs over HTTP: `serve` runs the web server and its workers, `create_app` makes its application, `Settings` say how.

The web server itself never opens an upload and never loads torch: what touches files runs in children (`children`, `child`).
"""

from .app import create_app
from .serve import serve
from .settings import Limits, Settings

__all__ = ["Limits", "Settings", "create_app", "serve"]
