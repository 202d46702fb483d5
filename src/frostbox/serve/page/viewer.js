// The picture with its boxes. `element` is this part of the page. Names are set as text, never as
// markup; every address is relative to this server.
const FLOOR = 0.05, LARGEST = 4096, TRIES = 6;
const part = (selector) => element.querySelector(selector);
const canvas = part("canvas"), status = part(".status"), body = part("tbody"), own = part(".own input");
let model = null; // what /model says
let shown = null; // { name, bitmap, found }
let score = null; // of the slider, once it was moved
let turn = 0; // of the newest picture: older answers are dropped
let marked = null; // the detection whose row is pointed at

const made = (tag, text = "", className = "") => {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = className;
  return node;
};

const say = (text, problem = false) => {
  status.textContent = text;
  status.classList.toggle("problem", problem);
};

const sentence = async (answer) => {
  const said = await answer.json().catch(() => ({}));
  return typeof said.detail === "string" ? said.detail : `The server answered ${answer.status}.`;
};

async function ask(blob, mine) {
  for (let tries = 1; ; tries++) {
    const answer = await fetch(`predict?threshold=${FLOOR}`, { method: "POST", body: blob, headers: { "Content-Type": "application/octet-stream" } });
    if (answer.ok) return answer.json();
    if (answer.status !== 503 || tries === TRIES || mine !== turn) throw new Error(await sentence(answer));
    const wait = Number(answer.headers.get("Retry-After")) || 1;
    say(`The server is busy; asking again in ${wait} s.`);
    await new Promise((done) => setTimeout(done, wait * 1000));
  }
}

// A picture from a promise of its bytes.
async function look(coming, name) {
  const mine = ++turn;
  shown = null;
  render();
  say("Looking …");
  try {
    const blob = await coming;
    // What a browser cannot show (TIFF) still has its boxes in the table.
    const [found, bitmap] = await Promise.all([ask(blob, mine), createImageBitmap(blob).catch(() => null)]);
    if (mine !== turn) return;
    shown = { name, bitmap, found };
    render();
    // On a phone the boxes are below: show them, with the slider.
    if (canvas.getBoundingClientRect().top > innerHeight * 0.6) document.querySelector("#threshold").scrollIntoView({ block: "start" });
  } catch (error) {
    if (mine === turn) say(error.message, true);
  }
}

async function bytes(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(await sentence(answer));
  return answer.blob();
}

const lowest = (detection) => (own.checked ? model.class_thresholds[detection.label] : score ?? model.threshold);
const visible = () => shown.found.detections.filter((each) => each.score >= lowest(each));

function render() {
  for (const selector of ["canvas", ".buttons", "table"]) part(selector).hidden = shown === null;
  if (shown === null || model === null) return;
  const boxes = visible();
  const limit = own.checked ? "at each class's own threshold" : `with a score of ${(score ?? model.threshold).toFixed(2)} or more`;
  const unseen = shown.bitmap ? "" : " This browser cannot show the picture itself.";
  say(`${boxes.length === 1 ? "1 object" : `${boxes.length} objects`} ${limit}.${unseen}`);
  canvas.hidden = part(".picture").hidden = shown.bitmap === null;
  marked = null;
  paint();
  body.replaceChildren(...boxes.map(row));
  part("table").hidden = boxes.length === 0;
}

function row(detection) {
  const line = document.createElement("tr");
  const name = made("td"), swatch = made("span", "", "swatch");
  swatch.style.background = model.colours[detection.label];
  name.append(swatch, detection.name);
  const [left, top, right, bottom] = detection.box.map(Math.round);
  line.append(name, made("td", detection.score.toFixed(2)), made("td", `${left}, ${top} – ${right}, ${bottom}`));
  line.tabIndex = 0;
  const mark = (which) => () => { marked = which; paint(); };
  line.onmouseenter = line.onfocus = mark(detection);
  line.onmouseleave = line.onblur = mark(null);
  return line;
}

function paint() {
  if (!shown?.bitmap) return;
  const { bitmap } = shown;
  const scale = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height));
  canvas.width = Math.round(bitmap.width * scale);
  canvas.height = Math.round(bitmap.height * scale);
  // Lines and text keep their size on the screen, whatever the picture's.
  draw(canvas, Math.max(1, canvas.width / (canvas.clientWidth || canvas.width)));
  canvas.setAttribute("aria-label", `The picture with boxes: ${visible().map((each) => each.name).join(", ") || "none"}`);
}

function draw(target, unit) {
  const pen = target.getContext("2d");
  pen.drawImage(shown.bitmap, 0, 0, target.width, target.height);
  const zoom = [target.width / shown.found.width, target.height / shown.found.height];
  const text = Math.round(13 * unit), pad = 4 * unit;
  pen.font = `600 ${text}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const area = ({ box }) => (box[2] - box[0]) * (box[3] - box[1]);
  // Large boxes first and names last, so that nothing hides a small object or a name.
  const boxes = visible().sort((a, b) => area(b) - area(a)).map((each) => ({
    each, colour: model.colours[each.label], corners: each.box.map((value, k) => value * zoom[k % 2]),
  }));
  const ready = ({ each, colour }) => {
    pen.globalAlpha = marked !== null && marked !== each ? 0.25 : 1;
    pen.strokeStyle = pen.fillStyle = colour;
    pen.lineWidth = (marked === each ? 4 : 2.5) * unit;
  };
  for (const box of boxes) {
    const [left, top, right, bottom] = box.corners;
    ready(box);
    pen.strokeRect(left, top, right - left, bottom - top);
  }
  for (const box of boxes) {
    const [left, top] = box.corners;
    const label = `${box.each.name} ${box.each.score.toFixed(2)}`;
    const width = pen.measureText(label).width + 2 * pad, height = text + pad;
    const x = Math.max(0, Math.min(left, target.width - width)), y = top >= height ? top - height : top;
    ready(box);
    pen.fillRect(x, y, width, height);
    pen.fillStyle = bright(box.colour) ? "#1b1b1f" : "#fff";
    pen.fillText(label, x + pad, y + height / 2);
  }
  pen.globalAlpha = 1;
}

const bright = (colour) => {
  const [red, green, blue] = [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140;
};

function save(blob, ending) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = shown.name.replace(/\.[^.]*$/, "") + ending;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

part(".json").onclick = () => {
  const { width, height } = shown.found;
  const text = JSON.stringify({ image: shown.name, width, height, detections: visible() }, null, 2);
  save(new Blob([text + "\n"], { type: "application/json" }), ".json");
};

part(".picture").onclick = () => {
  const copy = document.createElement("canvas");
  [copy.width, copy.height] = [canvas.width, canvas.height];
  marked = null;
  draw(copy, Math.max(1, Math.max(copy.width, copy.height) / 1000));
  copy.toBlob((blob) => save(blob, "-found.jpg"), "image/jpeg", 0.92);
};

own.onchange = render;
new ResizeObserver(paint).observe(element);

// What Gradio's picture and slider call.
window.frostbox = {
  open(picture) {
    if (picture?.url) look(bytes(picture.url), picture.orig_name || "picture.jpg");
    else { turn++; shown = null; render(); say("Choose a picture, use the camera, or try one of the examples."); }
  },
  threshold(value) {
    if (value === score || (score === null && value === model?.threshold)) return;
    score = value;
    own.checked = false;
    render();
  },
};

function introduce() {
  document.title = `${model.name} – frostbox`;
  document.querySelector("#about h1").textContent = `What ${model.name} finds`;
  document.querySelector("#about .classes").textContent = model.classes.join(", ");
  own.checked = model.class_thresholds !== null;
  part(".own").hidden = model.class_thresholds === null;
  const thumbs = model.examples.map((name, k) => {
    const button = made("button"), picture = document.createElement("img");
    button.type = "button";
    [picture.src, picture.alt, picture.loading] = [`examples/${k}`, name, "lazy"];
    button.append(picture);
    button.onclick = () => look(bytes(`examples/${k}`), name);
    return button;
  });
  document.querySelector("#examples .thumbs").replaceChildren(...thumbs);
  document.querySelector("#examples").hidden = thumbs.length === 0;
  render();
}

fetch("model").then((answer) => answer.json()).then((said) => { model = said; introduce(); })
  .catch(() => say("The server cannot be reached: load this page again.", true));
