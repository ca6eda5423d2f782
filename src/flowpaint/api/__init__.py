"""The calls that do everything, for programs and for the command line alike."""

from .calls import Options, deflicker, edit, plan_job, propagate, resume
from .catalogue import describe, look_sheet, looks, parts, shots, take_frames
from .doctor import doctor
from .estimate import plan
from .job import Job, recorded
from .prepare import Given
from .result import Files, Result, Saving, check_output, run_folder

__all__ = [
    "Files",
    "Given",
    "Job",
    "Options",
    "Result",
    "Saving",
    "check_output",
    "deflicker",
    "describe",
    "doctor",
    "edit",
    "look_sheet",
    "looks",
    "parts",
    "plan",
    "plan_job",
    "propagate",
    "recorded",
    "resume",
    "run_folder",
    "shots",
    "take_frames",
]
