// A picture with its boxes, small in the gallery and large in a dialog.

const ERROR_KINDS = ["classification", "localisation", "both", "duplicate", "background"];
const KIND_MEANING = {
  classification: "right place, wrong class", localisation: "right class, poor box",
  both: "wrong class and poor box", duplicate: "object already found", background: "nothing there",
  missed: "object not found",
};

// Whether an object counts as found depends on where the score slider stands.
function truthState(object, score) {
  if (object.difficult) return "difficult";
  if (object.found_at === undefined) return object.state;
  return isNumber(object.found_at) && object.found_at >= score ? "found" : "missed";
}

function visible(image, view) {
  const truth = image.truth.map((box) => ({ ...box, role: "truth", kind: truthState(box, view.score) }));
  const found = image.found.filter((box) => box.score >= view.score).map((box) => ({ ...box, role: "found" }));
  return { truth, found };
}

function tally(image, view) {
  const { truth, found } = visible(image, view);
  return {
    hits: found.filter((b) => b.kind === "hit").length,
    wrong: found.filter((b) => ERROR_KINDS.includes(b.kind)).length,
    missed: truth.filter((b) => b.kind === "missed").length,
    kinds: new Set([...found, ...truth].map((b) => b.kind)),
  };
}

const boxClass = (box) => {
  if (box.role === "truth") return `truth ${box.kind}`;
  return `prediction ${ERROR_KINDS.includes(box.kind) ? "error" : box.kind}`;
};

const boxWords = (box) => {
  const name = box.role === "found" ? `${box.name} ${fixed(box.score)}` : box.name;
  return `${name}, ${box.kind === "ignored" ? "on a difficult object" : box.kind}`;
};

// A frame as on the photos, on something as dark as a photo.
const keyIcon = (kind) => svg("svg", { class: `key box ${kind}`, width: 24, height: 16, "aria-hidden": "true" },
  svg("rect", { class: "ground", width: 24, height: 16, rx: 3 }), svg("rect", { class: "edge", x: 3, y: 3, width: 18, height: 10 }));

// What the reader looks for is named; names on everything would hide the photo.
function named(box, view) {
  if (box.kind === "difficult" || box.kind === "ignored") return false;
  return box.role === "found" || box.kind === "missed" || !view.predictions || !view.scored;
}

/* The photo and its boxes. Returns {node, boxes}; boxes pairs each shown box with its element. */
function drawn(image, view, labels) {
  const { truth, found } = visible(image, view);
  const { width, height } = image;
  const layer = svg("svg", { class: "overlay", viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  if (!image.picture) layer.append(svg("rect", { class: "blank", width, height }));
  const boxes = [];
  const names = el("div", { class: "names", "aria-hidden": "true" });
  for (const box of [...(view.truth ? truth : []), ...(view.predictions ? found : [])]) {
    const [x1, y1, x2, y2] = box.box;
    const place = { x: x1, y: y1, width: Math.max(0, x2 - x1), height: Math.max(0, y2 - y1) };
    const mark = svg("g", { class: `box ${boxClass(box)}` }, svg("rect", { class: "halo", ...place }), svg("rect", { class: "edge", ...place }));
    layer.append(mark);
    boxes.push([box, mark]);
    if (labels && named(box, view)) {
      const below = box.role === "truth";
      const chip = el("span", { class: `boxname ${boxClass(box)}` }, box.role === "found" ? `${box.name} ${fixed(box.score)}` : box.name);
      // Near the right edge a name ends where its box ends, so that it is not cut off.
      if (x1 > 0.7 * width) chip.style.right = `${Math.max(0, 100 - (100 * x2) / width)}%`;
      else chip.style.left = `${(100 * Math.max(0, x1)) / width}%`;
      if (below) chip.style.bottom = `${100 - (100 * Math.min(height, y2)) / height}%`;
      else chip.style.top = `${(100 * Math.max(0, y1)) / height}%`;
      if (!below && y1 > 0.06 * height) chip.classList.add("above");
      names.append(chip);
    }
  }
  const photo = image.picture
    ? el("img", { src: image.picture, alt: "", loading: "lazy", decoding: "async", width, height })
    : null;
  const node = el("div", { class: "picture" }, photo, layer, labels ? names : null);
  return { node, boxes };
}

/* The switches of a view; `change` is called after each. Predictions are offered where there are. */
function switches(view, change) {
  const set = (name) => (value) => {
    view[name] = value;
    change();
  };
  const parts = [toggle([keyIcon("truth found"), "Ground truth"], view.truth, set("truth"), "truth-toggle")];
  if (view.scored) {
    const output = el("output", {}, fixed(view.score));
    parts.push(
      toggle([keyIcon("prediction hit"), "Predictions"], view.predictions, set("predictions"), "prediction-toggle"),
      el("label", { class: "slider" }, "Score ≥ ", output,
        el("input", {
          type: "range", min: 0.05, max: 1, step: 0.01, value: view.score, "aria-label": "Lowest score shown",
          oninput: (event) => {
            view.score = Number(event.target.value);
            output.textContent = fixed(view.score);
            change();
          },
        })));
  }
  return parts;
}

const KEY = [
  ["truth found", "ground truth, found"], ["truth missed", "ground truth, missed"],
  ["truth difficult", "difficult, not counted"], ["prediction hit", "prediction, hit"],
  ["prediction error", "prediction, wrong"], ["prediction ignored", "prediction on a difficult object"],
];
const EXPLORE_KEY = [["truth found", "object"], ["truth difficult", "difficult object"]];

const boxKey = (scored) => el("ul", { class: "legend boxes" },
  (scored ? KEY : EXPLORE_KEY).map(([kind, text]) => el("li", {}, keyIcon(kind), text)));

/* The dialog. `present(images, index)` shows one and lets the arrow keys go on to its neighbours. */
function makeViewer(view, changed) {
  const stage = el("div", { class: "stage" });
  const list = el("ul", { class: "boxlist" });
  const title = el("h3", { id: "viewer-title" });
  const about = el("p", { class: "note" });
  const controls = el("div", { class: "controls" });
  const step = (by) => el("button", { type: "button", class: "chip", onclick: () => move(by) }, by < 0 ? "← Previous" : "Next →");
  const close = el("button", { type: "button", class: "chip close", "aria-label": "Close", onclick: () => dialog.close() }, "✕");
  const dialog = el("dialog", { class: "viewer", "aria-labelledby": "viewer-title" },
    el("div", { class: "viewer-head" }, title, el("div", { class: "chips" }, step(-1), step(1), close)),
    el("div", { class: "viewer-body" }, stage,
      el("div", { class: "side" }, controls, about, list, boxKey(view.scored))));
  let images = [];
  let at = 0;

  function move(by) {
    at = (at + by + images.length) % images.length;
    draw();
  }
  function draw() {
    const image = images[at];
    title.textContent = image.image_id;
    about.textContent = image.note;
    about.hidden = !image.note;
    const { node, boxes } = drawn(image, view, true);
    stage.replaceChildren(node);
    node.style.aspectRatio = `${image.width} / ${image.height}`;
    node.style.setProperty("--shape", image.width / image.height);
    list.replaceChildren(...boxes.map(([box, mark]) => el("li", {
      onpointerenter: () => mark.classList.add("lit"),
      onpointerleave: () => mark.classList.remove("lit"),
    }, keyIcon(boxClass(box)), view.scored ? boxWords(box) : box.name)));
  }
  dialog.addEventListener("keydown", (event) => {
    if (event.target.type === "range") return;
    if (event.key === "ArrowLeft") move(-1);
    if (event.key === "ArrowRight") move(1);
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  // What was switched in the dialog holds in the gallery too.
  dialog.addEventListener("close", changed);
  return Object.assign(dialog, {
    present(shown, index) {
      images = shown;
      at = index;
      controls.replaceChildren(...switches(view, draw));
      draw();
      dialog.showModal();
    },
  });
}
