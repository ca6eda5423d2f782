"""`application`: the page's components from top to bottom. Imported when the page is first wanted, for Gradio is heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI

from . import page_html as html
from .page_events import RESTORED, Events
from .page_result import NOTHING

_SILENT: dict[str, Any] = {"show_progress": "hidden", "queue": False, "api_visibility": "private"}
_KINDS = [
    ("Give it a new look", "edit"),
    ("Carry my own edited pictures through it", "propagate"),
    ("Only take the flicker out", "deflicker"),
    ("Give it the colours of another video", "colorize"),
]
_EXTENTS = [("Find out", "auto"), ("The whole picture", "global"), ("A part of it", "local")]
_QUALITIES = [("Draft, quick", "draft"), ("Normal", "normal"), ("Best, slow", "best")]
_HEAD = (
    '<link rel="stylesheet" href="/page/page.css"><script src="/page/page.js" defer></script>'
    '<script src="/page/brush.js" defer></script>'
)
_SANS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica", "Arial", "sans-serif"]
_MONO = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"]


@dataclass(frozen=True, kw_only=True)
class Clip:
    """Step 1: the hidden fields that `page.js` writes to, and what is shown of the clip."""

    identity: gr.Textbox
    here: gr.Dropdown
    problem: gr.Markdown
    viewer: gr.Markdown
    shots: gr.Markdown


@dataclass(frozen=True, kw_only=True)
class Look:
    """Step 2: `form` is what a job is made of, by the names of its fields; `lent` asks for the video that lends its colours."""

    look: gr.Dropdown
    method: gr.Dropdown
    key: gr.Textbox
    keys: gr.Textbox
    keyframes: gr.Markdown
    lent: gr.Column
    form: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class First:
    """Step 3: the edited first frame, and what can be done with it."""

    make: gr.Button
    problem: gr.Markdown
    group: gr.Column
    pictures: gr.Markdown
    accept: gr.Button
    another: gr.Button
    own: gr.Textbox


@dataclass(frozen=True, kw_only=True)
class Work:
    """Steps 4 and 5 and the list of jobs: the job that is shown, what it gives, and all the others."""

    preview: gr.Button
    run: gr.Button
    check: gr.Button
    cancel: gr.Button
    problem: gr.Markdown
    plan: gr.Markdown
    progress: gr.Markdown
    command: gr.Markdown
    result: gr.Markdown
    weak: gr.Markdown
    jobs: gr.Markdown
    job: gr.Textbox
    remove: gr.Textbox
    wanted: gr.Textbox


def application(app: FastAPI) -> FastAPI:
    """An application of its own that serves the page at `/`, over the REST routes of `app`."""
    with gr.Blocks(title="flowpaint", analytics_enabled=False, fill_width=False) as page:
        _piece("# flowpaint\nGive it a video and say what you want; get the whole video back, edited and steady.", "fp-title")
        clip, look, first, work = _clip(), _look(), _first(), _work()
        _wire(Events(app), page, clip=clip, look=look, first=first, work=work)
    inner = FastAPI(openapi_url=None)
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.teal,
        neutral_hue=gr.themes.colors.stone,
        radius_size=gr.themes.sizes.radius_md,
        font=_SANS,
        font_mono=_MONO,
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_200",
    )
    gr.mount_gradio_app(
        inner,
        page,
        path="/",
        theme=theme,
        head=_HEAD,
        favicon_path=str(Path(__file__).with_name("icon.png")),
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        max_file_size=1,
    )
    return inner


def _piece(value: str = "", name: str = "") -> gr.Markdown:
    """HTML put into the page as it is: `page_html` escapes every word of it, and the policy runs no inline script."""
    return gr.Markdown(value, elem_id=name or None, elem_classes="fp", sanitize_html=False, latex_delimiters=[])


def _field(name: str, value: str = "") -> gr.Textbox:
    """A field that only `page.js` and the handlers see."""
    return gr.Textbox(value, elem_id=name, elem_classes="fp-hidden", show_label=False, container=False, lines=1, max_lines=1)


def _clip() -> Clip:
    _piece("## 1 · Clip")
    identity = _field("fp-clip")
    _piece(html.upload("Upload a video", kind="video", tells="fp-clip", hint="or drop it here"))
    here = gr.Dropdown([], label="Or take a clip that is already here", elem_id="fp-here")
    return Clip(identity=identity, here=here, problem=_piece(), viewer=_piece(), shots=_piece())


def _look() -> Look:
    _piece("## 2 · Look")
    look = gr.Dropdown([("As my words say", "")], value="", label="Look", elem_id="fp-look")
    prompt = gr.Textbox(label="In your own words", placeholder="watercolour, a winter night …", max_lines=3, elem_id="fp-words")
    with gr.Accordion("Edited pictures of your own", open=False):
        _piece("Save a frame, paint over it in any program, and give it back here: the whole clip follows it.")
        _piece('<p><a class="fp-save" download href="#">Save the frame shown above</a></p>')
        _piece(
            html.upload("Upload the edited frame", kind="picture", tells="fp-key", hint="for the frame shown", with_frame=True)
        )
        key, keys, keyframes = _field("fp-key"), _field("fp-keys", "{}"), _piece()
        extent = gr.Radio(_EXTENTS, value="auto", label="What you changed in them")
    with gr.Accordion("More choices", open=False):
        form, lent = _more()
    form |= {"look": look, "prompt": prompt, "keyframes": keys, "extent": extent, "mask": _field("fp-mask")}
    return Look(look=look, method=form["method"], key=key, keys=keys, keyframes=keyframes, lent=lent, form=form)


def _more() -> tuple[dict[str, Any], gr.Column]:
    form: dict[str, Any] = {"kind": gr.Radio(_KINDS, value="edit", label="What to do")}
    with gr.Column(visible=False) as lent:
        form["by"] = _field("fp-by")
        _piece(html.upload("Upload the video with the colours", kind="video", tells="fp-by", hint="the same scene, coloured"))
    form["kind"].change(lambda kind: gr.update(visible=kind == "colorize"), form["kind"], lent, **_SILENT)
    form |= {
        "strength": gr.Slider(0, 1, value=1, step=0.05, label="How much of the edit"),
        "keep_colors": gr.Checkbox(label="Keep the colours of the clip"),
        "quality": gr.Radio(_QUALITIES, value="normal", label="Quality"),
    }
    with gr.Row():
        form["start"] = gr.Textbox(label="Begin at", placeholder="3.5s, 0:03 or a frame")
        form["end"] = gr.Textbox(label="End before", placeholder="the end")
    form["side_by_side"] = gr.Checkbox(label="Put source and result side by side into one video")
    form["style"] = _field("fp-style")
    _piece(html.upload("Take the style of a picture", kind="picture", tells="fp-style"))
    form["method"] = gr.Dropdown([("Chosen for you", "")], value="", label="Method")
    form["model"] = gr.Dropdown([("As the method has it", "")], value="", label="Image model")
    form["negative"] = gr.Textbox(label="What should not be there", max_lines=2)
    form["seed"] = gr.Number(value=0, precision=0, minimum=0, label="Seed: another number gives another result")
    form["other_shots"] = gr.Checkbox(label="Leave shots without an edited picture as they are")
    form["allow_damaged"] = gr.Checkbox(label="Use what can be read of a damaged clip")
    form["tonemap"] = gr.Checkbox(label="Turn HDR colours into ordinary ones")
    form["settings"] = gr.Textbox(label="Settings of the method, one part.field=value a line", lines=2)
    return form, lent


def _first() -> First:
    _piece("## 3 · First frame")
    _piece("Look at one edited frame before the whole clip is made. This step can be left out.")
    make, problem = gr.Button("Make the first frame", elem_id="fp-first"), _piece()
    with gr.Column(visible=False, elem_id="fp-approve") as group:
        pictures = _piece()
        with gr.Row():
            accept = gr.Button("Accept and make the clip", variant="primary", elem_id="fp-accept")
            another = gr.Button("Try another", elem_id="fp-another")
        own = _field("fp-own")
        _piece(html.upload("Use an edited picture instead", kind="picture", tells="fp-own"))
    return First(make=make, problem=problem, group=group, pictures=pictures, accept=accept, another=another, own=own)


def _work() -> Work:
    _piece("## 4 · Run")
    with gr.Row():
        preview = gr.Button("Preview two seconds", elem_id="fp-two")
        run = gr.Button("Make the whole clip", variant="primary", elem_id="fp-run")
    check = gr.Button("What will it take?", elem_id="fp-check")
    problem, plan, progress = _piece(name="fp-problem"), _piece(), _piece(name="fp-progress")
    cancel = gr.Button("Cancel", variant="stop", visible=False, elem_id="fp-cancel")
    command = _piece()
    _piece("## 5 · Result", "fp-five")
    result, weak = _piece(NOTHING, "fp-shown"), _piece()
    _piece("## Your jobs")
    jobs = _piece(name="fp-all")
    fields: dict[str, Any] = {"job": _field("fp-job"), "remove": _field("fp-remove"), "wanted": _field("fp-wanted", "[]")}
    shown: dict[str, Any] = {
        "problem": problem,
        "plan": plan,
        "progress": progress,
        "command": command,
        "result": result,
        "weak": weak,
    }
    return Work(preview=preview, run=run, check=check, cancel=cancel, jobs=jobs, **shown, **fields)


def _wire(events: Events, page: gr.Blocks, *, clip: Clip, look: Look, first: First, work: Work) -> None:
    """Which handler answers what, and where its answer goes."""
    at_clip = [clip.identity, clip.here, clip.problem, clip.viewer]
    keys = [look.keys, look.keyframes]
    at_job = [
        work.progress, work.command, work.result, work.weak, work.cancel, first.group, first.pictures,
        work.jobs, work.wanted, look.keyframes,
    ]  # fmt: skip
    job = {"inputs": [work.job, look.keys], "outputs": at_job, **_SILENT}

    page.load(events.choices, None, [look.look, look.method, look.form["model"]], **_SILENT)
    restored = [look.form[name] for name in RESTORED]
    page.load(events.arrive, None, [clip.identity, work.job, look.keys, look.lent, *restored], **_SILENT).then(
        events.clip, clip.identity, at_clip, **_SILENT
    ).then(events.job, **job).then(events.shots, clip.identity, clip.shots, **_SILENT)
    for listener, chosen in ((clip.identity.submit, clip.identity), (clip.here.input, clip.here)):
        afresh = [*keys, look.form["mask"]]
        # What was marked on the clip before goes first: the new one must not be shown with it.
        listener(lambda: ("{}", "", ""), None, afresh, **_SILENT).then(events.clip, chosen, at_clip, **_SILENT).then(
            events.shots, clip.identity, clip.shots, **_SILENT
        )
    look.key.submit(events.keyframe, [look.key, look.keys, work.wanted], keys, **_SILENT)

    names = {one._id: name for name, one in look.form.items()} | {clip.identity._id: "input"}
    form = {*look.form.values(), clip.identity}
    for button, how, where in (
        (work.run, events.run, work.problem),
        (work.preview, events.preview, work.problem),
        (first.make, events.first, first.problem),
    ):
        button.click(events.with_names(names, how), form, [where, work.job], **_SILENT).then(events.job, **job)
    work.check.click(
        events.with_names(names, events.plan), form, [work.problem, work.plan, work.command, work.wanted], **_SILENT
    ).then(events.suggestions, [look.keys, work.wanted], look.keyframes, **_SILENT)

    work.job.submit(events.job, **job)
    decisions: list[tuple[Any, Any, Any]] = [
        (first.accept.click, events.accept, work.job),
        (first.another.click, events.another, work.job),
        (first.own.submit, events.own, [work.job, first.own]),
        (work.cancel.click, events.cancel, work.job),
    ]
    for trigger, decide, what in decisions:
        trigger(decide, what, first.problem, **_SILENT).then(events.job, **job)
    work.remove.submit(events.remove, [work.remove, work.job], [work.problem, work.job], **_SILENT).then(events.job, **job)
