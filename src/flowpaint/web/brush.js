// The brush: a part of the frame is marked on a canvas over it, with a pointer or with the keyboard, and goes to the server as a
// black and white picture of the clip's size, white where the edit may show.
"use strict";

(() => {
  const LONGEST = 4096; // side of the canvas, in pixels
  const one = (choice, within) => (within || document).querySelector(choice);
  let last = null; // where the pointer was, in pixels of the canvas
  let spot = null; // where the keyboard's brush is

  const viewerOf = (node) => node.closest(".fp-viewer");
  const ink = (viewer) => one(".fp-ink", viewer);
  const rubs = (viewer) => one(".fp-rub", viewer).checked;

  function begin(viewer) {
    const canvas = ink(viewer);
    if (!canvas.dataset.ready) {
      const [width, height] = [Number(viewer.dataset.width), Number(viewer.dataset.height)];
      const ratio = Math.min(1, LONGEST / Math.max(width, height));
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
      canvas.dataset.ready = "1";
    }
    canvas.hidden = false;
    ring(viewer);
  }

  const thick = (viewer) => (ink(viewer).width * Number(one(".fp-size", viewer).value)) / 100;

  function line(viewer, from, to) {
    const pen = ink(viewer).getContext("2d");
    pen.globalCompositeOperation = rubs(viewer) ? "destination-out" : "source-over";
    pen.strokeStyle = "#ff2d87";
    pen.lineCap = pen.lineJoin = "round";
    pen.lineWidth = thick(viewer);
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x, to.y + 0.01);
    pen.stroke();
  }

  function place(canvas, event) {
    const box = canvas.getBoundingClientRect();
    return {
      x: ((event.clientX - box.left) / box.width) * canvas.width,
      y: ((event.clientY - box.top) / box.height) * canvas.height,
    };
  }

  function ring(viewer) {
    const [canvas, circle] = [ink(viewer), one(".fp-cursor", viewer)];
    const seen = document.activeElement === canvas && spot && !canvas.hidden;
    circle.hidden = !seen;
    if (!seen) return;
    const scale = canvas.clientWidth / canvas.width;
    circle.style.width = circle.style.height = `${thick(viewer) * scale}px`;
    circle.style.left = `${spot.x * scale}px`;
    circle.style.top = `${spot.y * scale}px`;
  }

  document.addEventListener(
    "toggle",
    (event) => {
      if (!event.target.matches?.(".fp-brush")) return;
      const viewer = viewerOf(event.target);
      if (event.target.open) begin(viewer);
      else ink(viewer).hidden = true;
    },
    true,
  );

  document.addEventListener("pointerdown", (event) => {
    if (!event.target.matches?.(".fp-ink")) return;
    event.preventDefault();
    event.target.setPointerCapture(event.pointerId);
    last = place(event.target, event);
    line(viewerOf(event.target), last, last);
  });
  document.addEventListener("pointermove", (event) => {
    if (!last || !event.target.matches?.(".fp-ink")) return;
    const next = place(event.target, event);
    line(viewerOf(event.target), last, next);
    last = next;
  });
  for (const name of ["pointerup", "pointercancel"]) document.addEventListener(name, () => (last = null));

  const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  document.addEventListener("keydown", (event) => {
    const canvas = event.target;
    if (!canvas.matches?.(".fp-ink")) return;
    const [viewer, way] = [viewerOf(canvas), WAYS[event.key]];
    spot ||= { x: canvas.width / 2, y: canvas.height / 2 };
    if (!way && event.key !== " ") return;
    event.preventDefault();
    const from = { ...spot };
    if (way) {
      const step = thick(viewer) / 2;
      spot.x = Math.min(canvas.width, Math.max(0, spot.x + way[0] * step));
      spot.y = Math.min(canvas.height, Math.max(0, spot.y + way[1] * step));
    }
    if (!way || event.shiftKey) line(viewer, from, spot);
    ring(viewer);
  });
  for (const name of ["focusin", "focusout"]) {
    document.addEventListener(name, (event) => {
      if (!event.target.matches?.(".fp-ink")) return;
      spot ||= { x: event.target.width / 2, y: event.target.height / 2 };
      setTimeout(() => ring(viewerOf(event.target)), 0);
    });
  }

  async function use(viewer, say) {
    const canvas = ink(viewer);
    const painted = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
    let some = false;
    for (let place = 3; place < painted.length && !some; place += 4) some = painted[place] > 127;
    if (!some) return say("Nothing is painted yet. Paint over what shall change first.", true);
    const mask = Object.assign(document.createElement("canvas"), {
      width: Number(viewer.dataset.width),
      height: Number(viewer.dataset.height),
    });
    const pen = mask.getContext("2d");
    pen.drawImage(canvas, 0, 0, mask.width, mask.height);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, mask.width, mask.height);
    pen.globalCompositeOperation = "destination-over";
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, mask.width, mask.height);
    const file = await new Promise((resolve) => mask.toBlob(resolve, "image/png"));
    try {
      const asset = await window.flowpaint.send(new File([file], "region.png", { type: "image/png" }));
      window.flowpaint.tell("fp-mask", asset.id);
      return say("Only the marked region will change.");
    } catch (error) {
      return say(error.message, true);
    }
  }

  // The page was loaded anew and has a region from before: it is seen again, and can be painted on.
  async function recall(viewer) {
    const identity = window.flowpaint.value("fp-mask");
    if (!identity) return;
    one(".fp-brush", viewer).open = true;
    begin(viewer);
    one(".fp-brush .fp-said", viewer).textContent = "Only the marked region will change.";
    const [canvas, mask] = [ink(viewer), new Image()];
    mask.src = `/v1/assets/${identity}/content`;
    await mask.decode();
    const pen = canvas.getContext("2d");
    pen.drawImage(mask, 0, 0, canvas.width, canvas.height);
    const picture = pen.getImageData(0, 0, canvas.width, canvas.height);
    const dots = picture.data;
    for (let place = 0; place < dots.length; place += 4) dots.set([255, 45, 135, dots[place]], place); // pink where it is white
    pen.putImageData(picture, 0, 0);
  }

  document.addEventListener("fp-new", (event) => {
    recall(event.target).catch(() => {
      one(".fp-brush .fp-said", event.target).textContent = "A region that was marked before is used, but it cannot be shown.";
    });
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("button[data-brush]");
    if (!button) return;
    const viewer = viewerOf(button);
    const said = one(".fp-brush .fp-said", viewer);
    const say = (words, wrong) => {
      said.textContent = words;
      said.classList.toggle("fp-problem", Boolean(wrong));
    };
    const canvas = ink(viewer);
    if (button.dataset.brush === "use") use(viewer, say);
    else canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
    if (button.dataset.brush === "forget") {
      window.flowpaint.tell("fp-mask", "");
      say("The whole picture will change.");
    }
  });
})();
