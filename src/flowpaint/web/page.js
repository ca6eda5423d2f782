// The page's own script: uploads, the frame slider, live progress, the result beside its source. Everything is found by data
// attributes in pieces that the server renders; what the user does is told back through hidden text fields.
"use strict";

(() => {
  const one = (choice, within) => (within || document).querySelector(choice);
  const all = (choice, within) => [...(within || document).querySelectorAll(choice)];

  function tell(field, value) {
    const box = one(`#${field} textarea, #${field} input`);
    if (!box) return;
    box.value = value;
    box.dispatchEvent(new Event("input", { bubbles: true }));
    box.dispatchEvent(new KeyboardEvent("keypress", { key: "Enter", bubbles: true })); // Gradio calls it "submit"
  }

  let told = 0;
  const again = (id) => `${id}#${++told}`; // the same job once more: the number makes it a change

  function clock(seconds) {
    const rest = Math.max(0, seconds);
    return `${Math.floor(rest / 60)}:${(rest % 60).toFixed(1).padStart(4, "0")}`;
  }

  function duration(seconds) {
    if (seconds < 90) return `${Math.max(1, Math.round(seconds))} s`;
    return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
  }

  // ------------------------------------------------------------------------------------------------------------- uploads

  async function refusal(answer) {
    try {
      const said = JSON.parse(answer);
      return said.detail || said.title;
    } catch {
      return "The upload failed. Try again.";
    }
  }

  function send(file, bar) {
    return new Promise((resolve, reject) => {
      const request = new XMLHttpRequest();
      const form = new FormData();
      form.append("file", file, file.name || "picture.png");
      request.open("POST", "/v1/assets");
      request.upload.onprogress = (event) => {
        if (bar && event.lengthComputable) bar.value = event.loaded / event.total;
      };
      request.onerror = () => reject(new Error("The upload broke off. Check the connection and try again."));
      request.onload = async () => {
        if (request.status === 201) resolve(JSON.parse(request.responseText));
        else reject(new Error(await refusal(request.responseText)));
      };
      request.send(form);
    });
  }

  const value = (field) => one(`#${field} textarea, #${field} input`)?.value || "";
  const stays = (input) => !input.hasAttribute("data-with-frame") && !["fp-clip", "fp-own"].includes(input.dataset.tells);

  function recall(input) {
    const box = input.closest(".fp-drop").parentElement; // its file came before the page was loaded anew
    const [said, away] = [one(".fp-said", box), one("[data-forget]", box)];
    if (!stays(input) || !away.hidden || said.textContent || !value(input.dataset.tells)) return;
    said.textContent = "The file that you gave before is used.";
    away.hidden = false;
  }

  async function upload(input, file) {
    const box = input.closest(".fp-drop").parentElement;
    const [bar, said, away] = [one("progress", box), one(".fp-said", box), one("[data-forget]", box)];
    const say = (words, wrong) => {
      said.textContent = words;
      said.classList.toggle("fp-problem", Boolean(wrong));
    };
    const frame = input.hasAttribute("data-with-frame") ? `${number()}=` : "";
    bar.hidden = false;
    bar.value = 0;
    say(`Uploading ${file.name} …`);
    try {
      const asset = await send(file, bar);
      if (asset.kind !== input.dataset.upload) {
        throw new Error(`${file.name} is a ${asset.kind}. Choose a ${input.dataset.upload} instead.`);
      }
      say(`${file.name} is here.`);
      away.hidden = !stays(input);
      tell(input.dataset.tells, frame + asset.id);
    } catch (error) {
      say(error.message, true);
    }
    bar.hidden = true;
    input.value = "";
  }

  window.flowpaint = { send, tell, value }; // for brush.js

  // -------------------------------------------------------------------------------------------------------------- frames

  const number = () => Number(one(".fp-scrub")?.value || 0);
  let fetching = false;

  function show(frame) {
    const viewer = one(".fp-viewer");
    if (!viewer) return;
    const [scrub, picture] = [one(".fp-scrub", viewer), one(".fp-frame", viewer)];
    if (frame !== undefined) scrub.value = frame;
    const seconds = (Number(viewer.dataset.seconds) * scrub.value) / Math.max(1, Number(viewer.dataset.frames));
    const where = `Frame ${scrub.value} of ${scrub.max}, ${clock(seconds)}`;
    one(".fp-where", viewer).textContent = where;
    scrub.setAttribute("aria-valuetext", where);
    const address = `/v1/assets/${viewer.dataset.asset}/frames/${scrub.value}`;
    const save = one(".fp-save");
    if (save) {
      save.href = `${address}?side=2048`;
      save.download = `frame-${scrub.value}.jpg`;
    }
    if (fetching || picture.dataset.now === scrub.value) return;
    fetching = true; // one at a time: dragging asks for more than can be decoded
    picture.dataset.now = scrub.value;
    const done = () => {
      fetching = false;
      show();
    };
    picture.addEventListener("load", done, { once: true });
    picture.addEventListener("error", done, { once: true });
    picture.src = `${address}?side=960`;
    picture.alt = `Frame ${scrub.value} of the clip`;
  }

  // ---------------------------------------------------------------------------------------------------------------- jobs

  let watched = null;

  function watch(panel) {
    const id = panel?.dataset.job || "";
    if (watched?.id === id && id) return;
    watched?.source.close();
    watched = null;
    if (!panel?.hasAttribute("data-live")) return;
    const source = new EventSource(`/v1/jobs/${id}/events`);
    watched = { id, source, stage: "", begun: 0, from: 0 };
    const state = watched;
    const data = (event) => {
      try {
        return JSON.parse(event.data);
      } catch {
        return {};
      }
    };
    const here = () => one(`.fp-job[data-job="${id}"]`);
    source.addEventListener("progress", (event) => advance(here(), state, data(event)));
    source.addEventListener("preview", (event) => {
      const picture = here() && one(".fp-preview", here());
      if (!picture) return;
      picture.src = `/v1/jobs/${id}/artifacts/preview?v=${encodeURIComponent(event.lastEventId)}`;
      picture.hidden = false;
    });
    source.addEventListener("state", (event) => {
      if (here() && data(event).state !== here().dataset.state) tell("fp-job", again(id));
    });
    source.addEventListener("end", () => {
      source.close();
      tell("fp-job", again(id));
    });
  }

  const STAGES = {
    align: "Following the motion",
    backward: "Carrying the pictures back",
    chunks: "Preparing frames",
    denoise: "Painting",
    masks: "Following the object",
    plan: "Choosing key pictures",
    windows: "Painting key pictures",
    write: "Frames made",
  };

  function advance(panel, state, now) {
    if (!panel || !now.total) return;
    const [bar, said] = [one(".fp-bar", panel), one(".fp-eta", panel)];
    if (!bar) return;
    const moment = performance.now() / 1000;
    if (state.stage !== now.stage) Object.assign(state, { stage: now.stage, begun: moment, from: now.done });
    bar.value = now.done / now.total;
    const made = now.done - state.from;
    const left = made > 0 && moment - state.begun > 1 ? ((moment - state.begun) / made) * (now.total - now.done) : null;
    said.textContent = `${STAGES[now.stage] || now.stage}: ${now.done} of ${now.total}` + (left === null ? "" : `, about ${duration(left)} left`);
  }

  // -------------------------------------------------------------------------------------------- result beside its source

  function compare(box) {
    if (box.dataset.alive) return;
    box.dataset.alive = "1";
    const [after, before] = [one(".fp-after", box), one(".fp-before", box)];
    const [play, time, at] = [one(".fp-toggle", box), one(".fp-time", box), one(".fp-at", box)];
    const offset = Number(box.dataset.offset);
    const share = one(".fp-share", box);
    const follow = () => {
      if (!before) return;
      const wanted = after.currentTime + offset;
      if (Math.abs(before.currentTime - wanted) > (after.paused ? 0.005 : 0.12)) before.currentTime = wanted;
    };
    const tick = () => {
      follow();
      if (after.duration) {
        if (document.activeElement !== time || !after.paused) time.value = (1000 * after.currentTime) / after.duration;
        at.textContent = `${clock(after.currentTime)} of ${clock(after.duration)}`;
        time.setAttribute("aria-valuetext", at.textContent);
      }
      if (!after.paused) requestAnimationFrame(tick);
    };
    const reveal = () => share && box.style.setProperty("--share", `${100 - share.value}%`);
    const shape = () => {
      const stage = one(".fp-stage", box);
      if (after.videoWidth) stage.style.aspectRatio = `${after.videoWidth} / ${after.videoHeight}`;
    };
    play.addEventListener("click", () => (after.paused ? after.play().catch(() => {}) : after.pause()));
    after.addEventListener("play", () => {
      play.textContent = "Pause";
      before?.play().catch(() => {});
      tick();
    });
    after.addEventListener("pause", () => {
      play.textContent = "Play";
      before?.pause();
      tick();
    });
    for (const name of ["seeked", "loadedmetadata", "loadeddata"]) after.addEventListener(name, tick);
    after.addEventListener("loadedmetadata", shape);
    before?.addEventListener("loadedmetadata", follow);
    after.addEventListener("error", () => (one(".fp-cannot", box).hidden = false));
    time.addEventListener("input", () => after.duration && (after.currentTime = (time.value / 1000) * after.duration));
    share?.addEventListener("input", reveal);
    if (after.error) one(".fp-cannot", box).hidden = false;
    reveal();
    shape();
  }

  function seek(seconds) {
    const video = one(".fp-compare .fp-after");
    if (!video) return;
    video.pause();
    video.currentTime = seconds;
    video.scrollIntoView({ block: "center", behavior: "auto" });
  }

  // ------------------------------------------------------------------------------------------------- what the user does

  document.addEventListener("change", (event) => {
    const input = event.target;
    if (input.matches?.("input[data-upload]") && input.files.length) upload(input, input.files[0]);
  });

  document.addEventListener("input", (event) => {
    if (event.target.matches?.(".fp-scrub")) show();
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button");
    if (!button) return;
    const said = button.dataset;
    if (said.sure && !window.confirm(said.sure)) return;
    if (said.go !== undefined) show(said.go);
    if (said.moment !== undefined) seek(Number(said.moment));
    else if (said.go !== undefined) one(".fp-viewer")?.scrollIntoView({ block: "nearest" });
    if (said.tell) tell(said.tell, again(said.value));
    if (said.forget) {
      tell(said.forget, "");
      one(".fp-said", button.parentElement).textContent = "";
      button.hidden = true;
    }
    if (said.copy) copy(button, one(`#${said.copy}`));
  });

  async function copy(button, what) {
    try {
      await navigator.clipboard.writeText(what.textContent);
    } catch {
      window.getSelection().selectAllChildren(what); // without HTTPS there is no clipboard: it is selected, at least
      button.textContent = document.execCommand("copy") ? "Copied" : "Selected, press Ctrl+C";
      return;
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  }

  for (const name of ["dragover", "drop"]) {
    document.addEventListener(name, (event) => {
      const place = event.target.closest?.(".fp-drop");
      if (!place) return;
      event.preventDefault();
      if (name === "drop" && event.dataTransfer.files.length) upload(one("input", place), event.dataTransfer.files[0]);
    });
  }

  // ----------------------------------------------------------------------------- after each change of what the page shows

  function remember() {
    const [clip, job] = [one(".fp-viewer")?.dataset.asset, one(".fp-job")?.dataset.job];
    const here = new URL(location.href);
    for (const [name, value] of Object.entries({ clip, job })) if (value) here.searchParams.set(name, value);
    if (!job && one("#fp-job textarea, #fp-job input")?.value === "" && alive.job) here.searchParams.delete("job");
    alive.job ||= Boolean(job);
    if (here.href !== location.href) history.replaceState(null, "", here);
  }

  const alive = { job: false };
  let due = false;

  function refresh() {
    due = false;
    const viewer = one(".fp-viewer");
    if (viewer && !viewer.dataset.alive) {
      viewer.dataset.alive = "1";
      one(".fp-frame", viewer).dataset.now = "0";
      show();
      viewer.dispatchEvent(new Event("fp-new", { bubbles: true }));
    }
    all("input[data-upload]").forEach(recall);
    for (const piece of all(".fp")) piece.closest(".block")?.classList.toggle("fp-empty", !piece.textContent.trim() && !one("img", piece));
    if (one('.fp-save[href="#"]')) show(); // it is there only once its fold was opened
    watch(one(".fp-job"));
    all(".fp-compare").forEach(compare);
    remember();
  }

  new MutationObserver(() => {
    if (due) return;
    due = true;
    requestAnimationFrame(refresh);
  }).observe(document.documentElement, { childList: true, subtree: true });
})();
