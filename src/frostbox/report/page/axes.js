// Scales, ticks and the frame that every chart is drawn in.

function scale([low, high], [from, to]) {
  const factor = (to - from) / (high - low || 1);
  return (value) => from + (value - low) * factor;
}

function ticks([low, high], wanted) {
  const raw = (high - low || 1) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const values = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) {
    values.push(Number((k * step).toPrecision(12)));
  }
  return values;
}

// Room for ticks on whole numbers, in powers of ten, of a count that may be 0.
const logCount = (value) => Math.log10(1 + value);
function logTicks(most) {
  const values = [0];
  for (let power = 1; power <= most; power *= 10) values.push(power);
  return values;
}

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

/* The axes of a chart: `root` (the svg element), `plot` (the group for marks), `x` and `y` (from
   values to pixels). `xTicks` and `yTicks` are lists of [value, text]. */
function frame(width, height, options) {
  const { xDomain, yDomain, xTicks, yTicks, xLabel, yLabel, label } = options;
  const longest = Math.max(...yTicks.map(([, text]) => text.length), 1);
  const area = { left: 14 + 7 * longest + (yLabel ? 18 : 0), right: width - 14, top: 12, bottom: height - (xLabel ? 46 : 28) };
  const x = scale(xDomain, [area.left, area.right]);
  const y = scale(yDomain, [area.bottom, area.top]);
  const root = svg("svg", { class: "chart", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  for (const [value, text] of yTicks) {
    root.append(
      svg("line", { class: "grid", x1: area.left, x2: area.right, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick", x: area.left - 8, y: y(value), dy: "0.32em", "text-anchor": "end" }, text));
  }
  for (const [value, text] of xTicks) {
    root.append(svg("text", { class: "tick", x: x(value), y: area.bottom + 18, "text-anchor": "middle" }, text));
  }
  root.append(svg("line", { class: "axis", x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom }));
  if (xLabel) {
    root.append(svg("text", { class: "label", x: (area.left + area.right) / 2, y: height - 8, "text-anchor": "middle" }, xLabel));
  }
  if (yLabel) {
    const middle = (area.top + area.bottom) / 2;
    root.append(svg("text", { class: "label", x: 12, y: middle, "text-anchor": "middle", transform: `rotate(-90 12 ${middle})` }, yLabel));
  }
  const plot = svg("g");
  root.append(plot);
  return { root, plot, x, y, area };
}

const percentTicks = (domain, wanted) => ticks(domain, wanted).map((v) => [v, `${Math.round(1000 * v) / 10}`]);
const numberTicks = (domain, wanted) => ticks(domain, wanted).map((v) => [v, short(v)]);
