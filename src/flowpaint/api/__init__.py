"""The calls that do everything, for programs and for the command line alike."""

from .calls import Options, deflicker, edit, plan_job, propagate, resume
from .catalogue import describe, look_sheet, looks, parts, shots, take_frames
from .contest import LAYOUTS, Poll, benchmark, tally, vote_page
from .doctor import doctor
from .estimate import plan
from .job import Job, recorded
from .judging import compare, evaluate
from .prepare import Given
from .result import Files, Result, Saving, check_output, run_folder
from .training import Cost, prepare, synth, train
from .verdict import Verdict, check_report

__all__ = [
    "LAYOUTS",
    "Cost",
    "Files",
    "Given",
    "Job",
    "Options",
    "Poll",
    "Result",
    "Saving",
    "Verdict",
    "benchmark",
    "check_output",
    "check_report",
    "compare",
    "deflicker",
    "describe",
    "doctor",
    "edit",
    "evaluate",
    "look_sheet",
    "looks",
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
    "take_frames",
    "tally",
    "train",
    "vote_page",
]
