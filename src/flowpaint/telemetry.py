"""Reports that libraries would send about their use: off, each by the library's own switch.

The package calls `switch_off` before it imports anything else, because most of these variables are read once, when their library
is imported. Processes that are started from here inherit them. docs/usage.md says what each library could send.
"""

import logging
import os
import sys

_log = logging.getLogger("flowpaint")

_SWITCHES = {
    "ORT_DISABLE_TELEMETRY": "1",  # ONNX Runtime from 1.29 on, read at import
    "HF_HUB_DISABLE_TELEMETRY": "1",  # huggingface_hub, transformers and diffusers, read at import; hf_xet
    "DISABLE_SAFETENSORS_CONVERSION": "1",  # transformers
    "GRADIO_ANALYTICS_ENABLED": "False",  # Gradio: only "True" is on
    "FASTAPI_OTEL_AUTO_CONFIGURE": "false",  # FastAPI: traces and errors to an OpenTelemetry collector
    "RAY_USAGE_STATS_ENABLED": "0",  # Ray: 0 or 1, anything else is an error there
}
_YES = {"1", "true", "yes", "on", "y"}
_ONNX, _HUB = "ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"
_unsaid: list[str] = []


def switch_off() -> None:
    """Set the switches for this process and those that it starts. Other values are replaced, and `say` tells which."""
    on = {name for name, value in _SWITCHES.items() if _is_on(os.environ.get(name), value)}
    for name, value in _SWITCHES.items():
        if name in on and os.environ.get(name):
            _unsaid.append(f"{name} was {os.environ[name]}. flowpaint has set it to {value}: it lets no library send reports.")
        os.environ[name] = value
    if _ONNX in on and "onnxruntime" in sys.modules:
        _unsaid.append(
            "onnxruntime was imported before flowpaint, and may have begun to send reports. "
            f"Import flowpaint first, or set {_ONNX}=1."
        )
    if constants := sys.modules.get("huggingface_hub.constants"):  # imported before flowpaint: it looks here each time
        vars(constants)[_HUB] = True


def say() -> None:
    """Log what `switch_off` has found, once."""
    while _unsaid:
        _log.warning(_unsaid.pop(0))


def _is_on(found: str | None, off: str) -> bool:
    """Whether reports are sent where a switch has the value `found` and `off` is the value that stops them."""
    return not found or (found.strip().lower() in _YES) != (off in _YES)
