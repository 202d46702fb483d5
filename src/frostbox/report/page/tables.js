// Tables that sort by a click on a heading, and matrices of counts.

const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

/* columns: [{name, key, text(row), node(row), numeric, hint}]; `key(row)` is what sorts. Values that
   are missing stay last in either direction. `filter(row)` is asked again by `refresh()`. */
function sortableTable({ columns, rows, caption, sort = 0, descending = false, filter = () => true, mark = () => false }) {
  let order = { column: sort, descending };
  const body = el("tbody");
  const heads = columns.map((column, k) =>
    el("th", { scope: "col", class: column.numeric ? "num" : null },
      el("button", { type: "button", title: column.hint, onclick: () => sortBy(k) }, column.name)));
  const lines = new Map(rows.map((row) => [row, el("tr", {}, columns.map((column, k) => {
    const content = column.node ? column.node(row) : column.text(row);
    return k === 0
      ? el("th", { scope: "row" }, content)
      : el("td", { class: [column.numeric ? "num" : "", column.className ?? ""].join(" ").trim() || null }, content);
  }))]));
  function sortBy(k) {
    const again = order.column === k;
    order = { column: k, descending: again ? !order.descending : Boolean(columns[k].numeric) };
    refresh();
  }
  function compare(a, b) {
    const key = columns[order.column].key;
    const [left, right] = [key(a), key(b)];
    if (left === null || right === null) return Number(left === null) - Number(right === null);
    const way = typeof left === "string" ? collator.compare(left, right) : left - right;
    return order.descending ? -way : way;
  }
  function refresh() {
    for (const [k, head] of heads.entries()) {
      const active = k === order.column;
      head.setAttribute("aria-sort", active ? (order.descending ? "descending" : "ascending") : "none");
    }
    const shown = rows.filter(filter).sort(compare);
    for (const row of shown) lines.get(row).classList.toggle("marked", mark(row));
    body.replaceChildren(...shown.map((row) => lines.get(row)));
    return shown.length;
  }
  refresh();
  const table = el("table", {}, el("caption", { class: "hidden" }, caption), el("thead", {}, el("tr", {}, heads)), body);
  return Object.assign(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption }, table), { refresh });
}

// An AP as number, bar and whisker of its interval.
function meter(value, low, high) {
  const box = el("span", { class: "meter", "aria-hidden": "true" });
  if (!isNumber(value)) return box;
  const bar = el("span", { class: "fill" });
  bar.style.width = `${100 * value}%`;
  box.append(bar);
  if (isNumber(low) && isNumber(high)) {
    const whisker = el("span", { class: "whisker" });
    whisker.style.left = `${100 * low}%`;
    whisker.style.width = `${Math.max(0.5, 100 * (high - low))}%`;
    box.append(whisker);
  }
  return box;
}

/* A square of counts with names at both sides. `shade(i, j)` in [0, 1] is the strength of a cell,
   `describe(i, j)` its sentence, `text(i, j)` what stands in it, `tone(i, j)` a class name. */
function matrix({ names, corner, shade, describe, text, tone = () => "", caption }) {
  const head = el("tr", {}, el("th", { class: "corner" }, corner),
    names.map((name) => el("th", { scope: "col", class: "up" }, el("span", { title: name }, name))));
  const lines = names.map((name, i) => el("tr", {}, el("th", { scope: "row", title: name }, name),
    names.map((_, j) => {
      const strength = Math.min(1, shade(i, j));
      const ink = el("span", { class: "ink" }, text(i, j));
      const cell = el("td", { class: `${tone(i, j)} ${strength > 0.85 ? "strong" : strength > 0.62 ? "middle" : ""}`.trim() || null }, ink);
      const wash = el("span", { class: "wash" });
      wash.style.opacity = strength > 0 ? 0.06 + 0.94 * strength : 0;
      cell.prepend(wash);
      return described(cell, describe(i, j));
    })));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    el("table", { class: names.length > 12 ? "matrix dense" : "matrix" },
      el("caption", { class: "hidden" }, caption), el("thead", {}, head), el("tbody", {}, lines)));
}
