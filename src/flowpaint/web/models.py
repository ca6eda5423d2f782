"""What goes in and comes out, as the OpenAPI document says it. Field names are those of `flowpaint.api.Job` and the CLI."""

from typing import Annotated, Any, Literal

from fastapi import Path as InPath
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ..jobs.records import State

_ID = r"[A-Za-z0-9_-]{1,64}"
AssetId = Annotated[str, StringConstraints(pattern=f"^{_ID}$")]
Key = Annotated[str, InPath(pattern=f"^{_ID}$")]  # of an asset or a job, in a path
Time = Annotated[str, StringConstraints(pattern=r"^[0-9:.s]{1,32}$")]  # a frame number, seconds or a clock time
Value = Annotated[str, StringConstraints(max_length=2000)]
Words = Annotated[str, StringConstraints(max_length=4000)]
Mark = Annotated[
    str, StringConstraints(pattern=rf"^(auto|(click|box):[-0-9., ]{{1,100}}|{_ID})$")
]  # auto, click:x,y, box:x0,y0,x1,y1, or a mask's asset
Path = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_.-]{0,199}$")]
Kind = Literal["edit", "propagate", "deflicker", "colorize"]
_MOST_WORDS = 100_000  # characters of all prompts of a job


class Asset(BaseModel):
    """An uploaded video or picture."""

    id: str
    name: str
    kind: Literal["video", "picture"]
    bytes: int
    width: int
    height: int
    frames: int
    seconds: float
    rate: float
    has_audio: bool
    created: float


class Assets(BaseModel):
    """Uploads, newest first."""

    assets: list[Asset]


class Shot(BaseModel):
    """A shot of a video: its first and last frame, and when it begins and ends."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    first: int
    last: int
    frames: int
    begin: str = Field(alias="from")
    end: str = Field(alias="to")


class Encoding(BaseModel):
    """How the result is encoded; what is not given is as the command line has it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    codec: Literal["h264", "hevc", "prores", "ffv1", "vp9", "av1"] | None = None
    crf: int | None = Field(default=None, ge=0, le=63)
    preset: Annotated[str, StringConstraints(pattern=r"^[a-z]{1,16}$")] | None = None
    pixel_format: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]{1,32}$")] | None = None
    pad_even: bool | None = None
    audio: Literal["copy", "aac", "none"] | None = None


class Asked(BaseModel):
    """What an edit is to do. Everything but the input has a default, and means what it means to `flowpaint edit`."""

    model_config = ConfigDict(extra="forbid", strict=True)

    kind: Kind = "edit"
    input: AssetId
    prompt: Words = ""
    prompts: dict[Time, Words] = Field(default_factory=dict, max_length=1000)
    negative: Words = ""
    method: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,64}$")] | None = None
    style: AssetId | None = None
    by: AssetId | None = None
    resample: bool = False
    keyframes: dict[Time, AssetId] = Field(default_factory=dict, max_length=1000)
    mask: AssetId | None = None
    objects: list[Mark] = Field(default_factory=list, max_length=16)
    new_object: AssetId | None = None
    reference: AssetId | None = None
    sketch: AssetId | None = None
    depth: AssetId | None = None
    instruct: bool = False
    remove: bool = False
    settings: dict[Path, Value | bool | int | float] = Field(default_factory=dict, max_length=100)
    strength: float = Field(default=1.0, ge=0, le=1, allow_inf_nan=False)
    keep_colors: bool = False
    quality: Literal["draft", "normal", "best"] = "normal"
    seed: int = Field(default=0, ge=0, le=2**31 - 1)
    start: Time | int | None = None
    end: Time | int | None = None
    preview: Time | None = None
    side_by_side: bool = False
    other_shots: Literal["refuse", "keep"] = "refuse"
    strict: bool = False
    extent: Literal["auto", "global", "local"] = "auto"
    allow_damaged: bool = False
    tonemap: bool = False
    fps: Annotated[str, StringConstraints(pattern=r"^[0-9./]{1,20}$")] | float = "24"
    encoding: Encoding = Encoding()
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "result.mp4"
    priority: int = Field(default=0, ge=-100, le=100)
    approve: bool = False

    @model_validator(mode="after")
    def _short(self) -> "Asked":
        """Lists of jobs hold all their words: so many, of so many jobs, must fit into memory."""
        length = sum(len(one) for one in (self.prompt, self.negative, *self.prompts.values()))
        if length > _MOST_WORDS:
            raise ValueError(f"all prompts together have {length:,} characters, more than {_MOST_WORDS:,}")
        return self


class Progress(BaseModel):
    """How far a job is."""

    stage: str
    done: int
    total: int


class Failure(BaseModel):
    """Why a job failed: the command line's message and exit code."""

    code: int
    message: str


class Artifact(BaseModel):
    """A file that a job made; `href` is where it is."""

    name: Literal["video", "report", "sheet", "first", "preview", "candidates"]
    file: str
    bytes: int
    type: str
    href: str


class Job(BaseModel):
    """A job, as it is now. "waiting" is for approval of the edited first frame."""

    id: str
    state: State
    kind: Kind
    name: str
    prompt: str
    method: str
    look: str
    priority: int
    created: float
    started: float | None
    finished: float | None
    attempt: int
    progress: Progress
    error: Failure | None
    approve: bool
    artifacts: list[Artifact]
    request: dict[str, Any]
    command: str


class Jobs(BaseModel):
    """Jobs, newest first."""

    jobs: list[Job]


class Approval(BaseModel):
    """What becomes of the edited first frame: nothing given accepts it, a seed makes another, a picture stands in for it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    seed: int | None = Field(default=None, ge=0, le=2**31 - 1)
    keyframe: AssetId | None = None


class Plan(BaseModel):
    """What a job would do and cost."""

    model_config = ConfigDict(extra="allow")

    method: str
    look: str
    frames: int
    shots: list[dict[str, Any]]
    keyframes_given: list[int]
    keyframes_made: list[int]
    output: dict[str, Any]
    estimate: dict[str, Any]
    warnings: list[str]
    command: str


class Setting(BaseModel):
    """One setting of a method."""

    name: str
    type: str
    default: Any
    required: bool


class Method(BaseModel):
    """A method: its name, what it does, and its fields."""

    name: str
    doc: str
    fields: list[Setting]


class Methods(BaseModel):
    """The methods that `method` may name."""

    methods: list[Method]


class Look(BaseModel):
    """A built-in look."""

    name: str
    aliases: list[str]
    shows: str


class Looks(BaseModel):
    """The looks that `prompt` may name."""

    looks: list[Look]


class Models(BaseModel):
    """Weights that flowpaint knows, and whether they are here."""

    models: list[dict[str, Any]]


class Health(BaseModel):
    """The server is there."""

    status: Literal["ok"] = "ok"
    version: str


class Token(BaseModel):
    """A login."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token: str = Field(max_length=1000)
