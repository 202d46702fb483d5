// Lines, histograms, bars and heat maps.

const COLOURS = 6;
const colour = (k) => `c${(k % COLOURS) + 1}`;

function swatch(series) {
  return svg("svg", { class: "swatch", width: 22, height: 10, "aria-hidden": "true" },
    svg("line", { class: `line ${series.className}`, x1: 1, x2: 21, y1: 5, y2: 5 }));
}

const legend = (series) => el("ul", { class: "legend" },
  series.map((s) => el("li", {}, swatch(s), el("span", {}, s.name))));

// The value of a series at x: that of the nearest point.
function nearest(series, x) {
  let best = 0;
  for (let k = 1; k < series.x.length; k += 1) {
    if (Math.abs(series.x[k] - x) < Math.abs(series.x[best] - x)) best = k;
  }
  return best;
}

/* Lines over one axis. `options.series()` gives [{name, x, y, className, faint, markers}]; the
   pointer, or the arrow keys, read the values off all lines that are not faint. `snap` reads at the
   points of the first line; `ends` reads nothing beyond the last point of a line. */
function lineChart(options) {
  const { label, xLabel, yLabel, xFormat, yFormat, height = 300, diagonal = false } = options;
  let cursor = null;
  const box = responsive("plot", (width) => {
    const series = options.series();
    const xs = series.flatMap((s) => s.x);
    const ys = series.flatMap((s) => s.y).filter(isNumber);
    const xDomain = options.xDomain ?? [Math.min(...xs), Math.max(...xs)];
    const yDomain = options.yDomain ?? [Math.min(0, ...ys), Math.max(...ys) * 1.05 || 1];
    const wanted = Math.max(3, Math.min(8, Math.floor(width / 80)));
    const { root, plot, x, y, area } = frame(width, height, {
      xDomain, yDomain, xLabel, yLabel, label,
      xTicks: options.xTicks?.(xDomain, wanted) ?? numberTicks(xDomain, wanted),
      yTicks: options.yTicks?.(yDomain, 5) ?? numberTicks(yDomain, 5),
    });
    if (diagonal) plot.append(svg("line", { class: "diagonal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
    for (const s of [...series].sort((a, b) => Number(Boolean(b.faint)) - Number(Boolean(a.faint)))) {
      const points = s.x.map((v, k) => [v, s.y[k]]).filter(([, v]) => isNumber(v));
      plot.append(svg("path", {
        class: `line ${s.faint ? "faint" : s.className}`, "data-name": s.name,
        d: points.map(([a, b], k) => `${k ? "L" : "M"}${x(a).toFixed(1)} ${y(b).toFixed(1)}`).join(""),
      }));
      if (s.markers) {
        for (const [k, [a, b]] of points.entries()) {
          plot.append(svg("circle", { class: `dot ${s.className}`, cx: x(a), cy: y(b), r: s.markers[k] ?? 3.5 }));
        }
      }
    }
    const strong = series.filter((s) => !s.faint && s.x.length);
    const hair = svg("line", { class: "hair", y1: area.top, y2: area.bottom, visibility: "hidden" });
    const dots = strong.map((s) => svg("circle", { class: `dot ${s.className}`, r: 4, visibility: "hidden" }));
    plot.append(hair, ...dots);
    const read = (value, at) => {
      hair.setAttribute("x1", x(value));
      hair.setAttribute("x2", x(value));
      hair.setAttribute("visibility", "visible");
      const rows = strong.map((s, k) => {
        const point = nearest(s, value);
        const there = isNumber(s.y[point]) && !(options.ends && value > s.x[s.x.length - 1]);
        dots[k].setAttribute("visibility", there ? "visible" : "hidden");
        if (there) {
          dots[k].setAttribute("cx", x(s.x[point]));
          dots[k].setAttribute("cy", y(s.y[point]));
        }
        return el("div", { class: "row" }, swatch(s), el("span", {}, s.name),
          el("b", {}, there ? yFormat(s.y[point], s, point) : NONE));
      });
      tooltip.show(at[0], at[1], el("div", { class: "row" }, el("span", {}, xLabel), el("b", {}, xFormat(value))), rows);
    };
    const quiet = () => {
      for (const node of [hair, ...dots]) node.setAttribute("visibility", "hidden");
      tooltip.hide();
    };
    if (strong.length) {
      root.setAttribute("tabindex", "0");
      root.addEventListener("pointermove", (event) => {
        const left = root.getBoundingClientRect().left;
        const share = (event.clientX - left - area.left) / (area.right - area.left);
        cursor = xDomain[0] + Math.min(1, Math.max(0, share)) * (xDomain[1] - xDomain[0]);
        read(options.snap ? strong[0].x[nearest(strong[0], cursor)] : cursor, [event.clientX, event.clientY]);
      });
      root.addEventListener("pointerleave", quiet);
      root.addEventListener("blur", quiet);
      root.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const steps = options.snap ? Math.max(1, strong[0].x.length - 1) : 40;
        const size = (xDomain[1] - xDomain[0]) / steps;
        cursor = Math.min(xDomain[1], Math.max(xDomain[0], (cursor ?? xDomain[0] - size) + step * size));
        const bounds = root.getBoundingClientRect();
        read(cursor, [bounds.left + x(cursor), bounds.top + area.top]);
      });
    }
    return root;
  });
  return box;
}

/* Bars between edges, the series side by side in each bin. `equal` gives every bin the same width,
   whatever its edges; `names` are written below the bins instead of edges; `log` draws powers of
   ten. */
function histogram({ edges, series, label, xLabel, yLabel, names = null, equal = false, log = false, height = 260, format = short }) {
  const most = Math.max(1, ...series.flatMap((s) => s.counts));
  const position = (k) => (equal ? k : edges[k]);
  return responsive("plot", (width) => {
    const value = log ? logCount : (v) => v;
    const last = edges.length - 1;
    const every = Math.max(1, Math.ceil((last * (names ? 24 : 46)) / width));
    const { root, plot, x, y } = frame(width, height, {
      xDomain: [position(0), position(last)], yDomain: [0, value(most) * 1.04], xLabel, yLabel, label,
      xTicks: (names ? names.map((name, k) => [position(k) + 0.5, name]) : edges.map((edge, k) => [position(k), format(edge)]))
        .filter((_, k) => k % every === 0),
      yTicks: log
        ? logTicks(most).map((v) => [logCount(v), compact.format(v)])
        : ticks([0, most], 5).filter((v) => Number.isInteger(v)).map((v) => [v, compact.format(v)]),
    });
    for (let bin = 0; bin < last; bin += 1) {
      const left = x(position(bin)) + 1;
      const room = Math.max(1, x(position(bin + 1)) - left - 1);
      const each = room / series.length;
      const where = names ? `${xLabel} ${names[bin]}` : `${format(edges[bin])} – ${format(edges[bin + 1])}`;
      for (const [k, s] of series.entries()) {
        plot.append(svg("rect", { class: `bar ${s.className}`, x: left + k * each, y: y(value(s.counts[bin])), width: Math.max(1, each - (series.length > 1 ? 0.5 : 0)), height: Math.max(0, y(0) - y(value(s.counts[bin]))), rx: 1 }));
      }
      const target = svg("rect", { class: "target", x: left, y: y(value(most)), width: room, height: y(0) - y(value(most)) });
      const move = (event) => tooltip.show(event.clientX, event.clientY, el("div", { class: "row" }, el("b", {}, where)),
        series.map((s) => el("div", { class: "row" }, el("span", {}, s.name), el("b", {}, count(s.counts[bin])))));
      target.addEventListener("pointermove", move);
      target.addEventListener("pointerleave", () => tooltip.hide());
      plot.append(target);
    }
    return root;
  });
}

const blocks = (series) => el("ul", { class: "legend" },
  series.map((s) => el("li", {}, el("span", { class: `block ${s.className}`, "aria-hidden": "true" }), el("span", {}, s.name))));

/* Rows of a name, a bar and its value: [{name, about, value, text, className, action, hint}]. */
function bars(rows, { most = Math.max(...rows.map((r) => r.value ?? 0), 0), label } = {}) {
  return el("ul", { class: "bars", "aria-label": label }, rows.map((row) => {
    const bar = el("span", { class: `fill ${row.className ?? "c1"}` });
    bar.style.width = `${most > 0 ? (100 * Math.max(0, row.value ?? 0)) / most : 0}%`;
    const name = row.action
      ? el("button", { type: "button", class: "link", onclick: row.action, title: row.hint }, row.name)
      : el("span", { class: "name" }, row.name);
    const about = row.about ? el("span", { class: "hint" }, row.about) : null;
    return el("li", {}, el("span", {}, name, about), el("span", { class: "track" }, bar), el("span", { class: "num" }, row.text));
  }));
}

/* Counts on a grid over the image, from transparent to full colour. */
function heatMap(rows, label) {
  const most = Math.max(1, ...rows.flat());
  const root = svg("svg", { class: "heat", viewBox: `0 0 ${rows[0].length} ${rows.length}`, role: "img", "aria-label": label, preserveAspectRatio: "none" });
  for (const [i, row] of rows.entries()) {
    for (const [j, value] of row.entries()) {
      if (value) root.append(svg("rect", { x: j, y: i, width: 1.02, height: 1.02, "fill-opacity": (value / most) ** 0.6 }));
    }
  }
  return root;
}
