"""The calls that do everything, for programs and for the command line alike."""

from ..telemetry import say as _say
from ..weights import Policy
from .calls import Options, colorize, deflicker, edit, plan_job, propagate, resume
from .catalogue import describe, look_sheet, looks, parts, shots, take_frames
from .command import command
from .contest import LAYOUTS, Poll, benchmark, tally, vote_page
from .doctor import doctor
from .estimate import plan
from .files import Files, run_folder
from .first import First
from .job import Job, default_output, recorded
from .judging import compare, evaluate, is_made
from .machines import executor
from .material import facts, take_frame
from .models import download_model, model_licences, models, verify_models
from .prepare import Given
from .result import Result, Saving, check_approval, check_output
from .training import Cost, prepare, synth, train
from .trust import trusted
from .verdict import Verdict, check_report

_say()  # not earlier: the command line listens by now, and whoever only imports flowpaint has not asked for anything yet

__all__ = [
    "LAYOUTS",
    "Cost",
    "Files",
    "First",
    "Given",
    "Job",
    "Options",
    "Policy",
    "Poll",
    "Result",
    "Saving",
    "Verdict",
    "benchmark",
    "check_approval",
    "check_output",
    "check_report",
    "colorize",
    "command",
    "compare",
    "default_output",
    "deflicker",
    "describe",
    "doctor",
    "download_model",
    "edit",
    "evaluate",
    "executor",
    "facts",
    "is_made",
    "look_sheet",
    "looks",
    "model_licences",
    "models",
    "parts",
    "plan",
    "plan_job",
    "prepare",
    "propagate",
    "recorded",
    "resume",
    "run_folder",
    "shots",
    "synth",
    "take_frame",
    "take_frames",
    "tally",
    "train",
    "trusted",
    "verify_models",
    "vote_page",
]
