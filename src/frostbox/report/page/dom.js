// Elements, numbers as people read them, and the tooltip. All text is set as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, String(value));
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return node;
}

const el = (name, attributes = {}, ...children) =>
  fill(document.createElement(name), attributes, children);

const svg = (name, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, name), attributes, children);

const NONE = "–";
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const percent = (value, digits = 1) => (isNumber(value) ? (100 * value).toFixed(digits) : NONE);
const fixed = (value, digits = 2) => (isNumber(value) ? value.toFixed(digits) : NONE);
const count = (value) => (isNumber(value) ? value.toLocaleString("en") : NONE);
const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;
// Four digits that mean something: losses span magnitudes.
const short = (value) => (isNumber(value) ? String(Number(value.toPrecision(4))) : NONE);
const range = (low, high) => `${percent(low)} – ${percent(high)}`;

// What is remembered across visits. A page from disk may be refused storage: then it forgets.
const memory = {
  get(name) {
    try { return localStorage.getItem(`frostbox-${name}`); } catch { return null; }
  },
  set(name, value) {
    try { localStorage.setItem(`frostbox-${name}`, value); } catch { /* private mode */ }
  },
};

// Draws again whenever the room it has becomes wider or narrower, so that text keeps its size.
function responsive(className, draw) {
  const box = el("div", { class: className });
  let width = 0;
  const redraw = () => {
    if (width) box.replaceChildren(...[draw(width)].flat());
  };
  new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    if (now !== width) {
      width = now;
      redraw();
    }
  }).observe(box);
  return Object.assign(box, { redraw });
}

const tooltip = {
  node: document.getElementById("tip"),
  show(x, y, ...content) {
    this.node.replaceChildren(...content.flat());
    this.node.hidden = false;
    const { offsetWidth: width, offsetHeight: height } = this.node;
    const left = x + 16 + width > innerWidth ? x - width - 12 : x + 14;
    const top = y + 16 + height > innerHeight ? y - height - 12 : y + 14;
    this.node.style.left = `${Math.max(4, left)}px`;
    this.node.style.top = `${Math.max(4, top)}px`;
  },
  hide() {
    this.node.hidden = true;
  },
};

// The same words for a pointer, for the keyboard and for a screen reader.
function described(node, text) {
  node.setAttribute("aria-label", text);
  node.addEventListener("pointermove", (event) => tooltip.show(event.clientX, event.clientY, text));
  node.addEventListener("pointerleave", () => tooltip.hide());
  return node;
}

function toggle(label, pressed, change, className = "") {
  const button = el("button", { type: "button", class: `chip ${className}` }, label);
  const set = (value) => button.setAttribute("aria-pressed", value);
  set(pressed);
  button.addEventListener("click", () => {
    const now = button.getAttribute("aria-pressed") !== "true";
    set(now);
    change(now);
  });
  return Object.assign(button, { set });
}

// One of several; the first is chosen at the start.
function choice(label, options, change, initial = options[0].value) {
  const buttons = options.map((option) =>
    el("button", {
      type: "button",
      class: "chip",
      "data-value": option.value,
      "aria-pressed": option.value === initial,
      onclick: () => choose(option.value),
    }, option.label, option.count === undefined ? null : el("span", { class: "n" }, count(option.count))));
  function choose(value) {
    for (const button of buttons) {
      button.setAttribute("aria-pressed", button.dataset.value === String(value));
    }
    change(value);
  }
  return Object.assign(el("div", { class: "chips", role: "group", "aria-label": label }, buttons), { choose });
}

function section(id, title, about, ...content) {
  return el("section", { id, "aria-labelledby": `${id}-title` },
    el("div", { class: "head" }, el("h2", { id: `${id}-title` }, title),
      about ? el("p", { class: "about" }, about) : null),
    content);
}

const card = (title, ...content) =>
  el("div", { class: "card" }, title ? el("h3", {}, title) : null, content);

const note = (text) => el("p", { class: "note" }, text);

function facts(title, pairs) {
  return card(title, el("dl", { class: "facts" },
    pairs.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))));
}

function tile(name, value, unit, detail, extra) {
  return el("div", { class: "tile" },
    el("div", { class: "name" }, name),
    el("div", { class: "value" }, value, unit ? el("span", { class: "unit" }, unit) : null),
    extra, detail ? el("div", { class: "detail" }, detail) : null);
}
