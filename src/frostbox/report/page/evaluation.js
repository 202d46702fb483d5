// The report of an evaluation. `report` is contract.EvaluationReport.

function buildPage(report) {
  const names = report.classes.map((row) => row.name);
  const gallery = report.gallery.length
    ? makeGallery({ images: report.gallery, classes: names, scored: true, score: report.score ?? 0.25 })
    : null;
  const { calibration, confusion, training, scores } = report;
  return [
    section("overview", "Overview", report.rule, headline(report), report.intervals ? note(report.intervals) : null),
    report.classes.length ? section("classes", "Classes",
      "Choose classes by their names to compare their curves. Hits, false positives and misses are counted at the threshold of the best F1.",
      classParts(report.classes)) : null,
    report.errors.length ? section("errors", "Errors",
      `Each wrong detection has one kind${report.score === undefined ? "" : `; counted from score ${report.score.toFixed(2)} on`}. The cost is the AP that would be gained if this kind alone were mended; costs do not add up.`,
      errorBars(report.errors, gallery)) : null,
    confusion ? section("confusion", "Confusion",
      `Rows are ground truth, columns predictions, matched at IoU ${confusion.iou}; predictions from score ${confusion.score.toFixed(2)}. The background column counts missed objects, its row predictions on nothing.`,
      confusionCard(confusion)) : null,
    scores || calibration ? section("scores", "Scores",
      "Whether a score can be believed: how it separates hits from false positives, and how often a detection of a given score is right.",
      el("div", { class: "pair" }, scores ? scoreCard(scores) : null, calibration ? calibrationCard(calibration) : null)) : null,
    report.by_size.length || report.by_count.length ? section("slices", "Slices",
      "AP50 on parts of the data.", el("div", { class: "pair" },
        sliceCard("By object size", report.by_size, "ground_truth", "object"),
        sliceCard("By objects per image", report.by_count, "images", "image"))) : null,
    gallery ? section("gallery", "Gallery",
      "The best, the worst and the most instructive images. Choose one to enlarge it.", gallery.content) : null,
    training && training.rows.length ? section("training", "Training", "What was logged after each epoch.", trainingCards(training)) : null,
    report.facts.model.length || report.facts.data.length ? section("facts", "Facts", null,
      el("div", { class: "pair" }, factsCard("Model", report.facts.model), factsCard("Data", report.facts.data))) : null,
  ];
}

const factsCard = (title, pairs) => (pairs.length ? facts(title, pairs) : null);

function headline(report) {
  return el("div", { class: "tiles" }, report.headline.map((entry) => {
    const between = isNumber(entry.low) && isNumber(entry.high);
    return tile(entry.name, percent(entry.value), isNumber(entry.value) ? "%" : "", entry.rule, [
      meter(entry.value, entry.low, entry.high),
      between ? el("div", { class: "interval" }, range(entry.low, entry.high)) : null,
    ]);
  }));
}

function classParts(classes) {
  const scored = classes.filter((row) => isNumber(row.ap50)).sort((a, b) => b.ap50 - a.ap50);
  // Best, middle and worst say at a glance how far the classes lie apart.
  const start = [scored[0], scored[Math.floor(scored.length / 2)], scored[scored.length - 1]];
  // A class keeps its colour while others come and go.
  const selected = new Map([...new Set(start.filter(Boolean))].map((row, k) => [row.name, k]));
  const buttons = new Map();
  const styles = () => classes.filter((row) => row.curve.recall.length).map((row) => {
    const place = selected.get(row.name);
    return { name: row.name, x: row.curve.recall, y: row.curve.precision, faint: place === undefined, className: colour(place ?? 0) };
  });
  const key = el("div", { class: "legend-room" });
  const chart = lineChart({
    label: "Precision against recall of the chosen classes; all others faint",
    xLabel: "Recall (%)", yLabel: "Precision (%)", height: 380, xDomain: [0, 1], yDomain: [0, 1],
    xTicks: percentTicks, yTicks: percentTicks, xFormat: (v) => percent(v), yFormat: (v) => percent(v),
    // Beyond the recall that a class reaches there is no precision to read.
    ends: true, series: styles,
  });
  function choose(name) {
    if (!selected.delete(name)) {
      if (selected.size === COLOURS) selected.delete(selected.keys().next().value);
      const taken = new Set(selected.values());
      selected.set(name, [...Array(COLOURS).keys()].find((k) => !taken.has(k)));
    }
    update();
  }
  function update() {
    for (const [name, button] of buttons) button.setAttribute("aria-pressed", selected.has(name));
    const strong = styles().filter((s) => !s.faint);
    key.replaceChildren(strong.length ? legend(strong) : note("Choose a class in the table."));
    chart.redraw();
    table.refresh();
  }
  const nameButton = (row) => {
    const button = el("button", { type: "button", class: "link", onclick: () => choose(row.name) }, row.name);
    buttons.set(row.name, button);
    return button;
  };
  const number = (name, field, hint) => ({ name, numeric: true, hint, key: (r) => r[field], text: (r) => count(r[field]) });
  const share = (name, field, hint) => ({ name, numeric: true, hint, key: (r) => r[field], text: (r) => percent(r[field]) });
  const table = sortableTable({
    caption: "Results of each class", rows: classes, sort: 1, descending: true,
    mark: (row) => selected.has(row.name),
    columns: [
      { name: "Class", key: (r) => r.name, node: nameButton },
      { name: "AP50", numeric: true, className: "wide", hint: "Average precision at IoU 0.5, all-point, in per cent", key: (r) => r.ap50,
        node: (r) => [meter(r.ap50, r.low, r.high), el("span", { class: "with-meter" }, percent(r.ap50))] },
      { name: "Interval", numeric: true, hint: "Of AP50; sorts by its width", key: (r) => (isNumber(r.low) && isNumber(r.high) ? r.high - r.low : null),
        text: (r) => (isNumber(r.low) ? range(r.low, r.high) : NONE) },
      share("11-point", "ap50_11point", "AP50 by the rule of VOC2007, in per cent"),
      number("Objects", "ground_truth", "Ground truth without difficult objects"),
      number("Difficult", "difficult", "Not counted as hit or miss"),
      number("Hits", "hits"), number("False pos.", "false_positives"), number("Misses", "misses"),
      share("Best F1", "best_f1", "In per cent"),
      { name: "at score", numeric: true, hint: "The score threshold of the best F1", key: (r) => r.threshold, text: (r) => fixed(r.threshold) },
    ],
  });
  update();
  return [card("Precision and recall", key, chart), el("div", { class: "card flush" }, table)];
}

function errorBars(errors, gallery) {
  const row = (entry, value, text) => ({
    name: entry.kind, value, text, className: entry.kind === "missed" ? "c5" : "c2",
    action: gallery ? () => gallery.show(entry.kind) : null, about: KIND_MEANING[entry.kind], hint: "Show examples",
  });
  return el("div", { class: "pair" },
    card("How often", bars(errors.map((e) => row(e, e.count, count(e.count))), { label: "Number of errors of each kind" })),
    card("AP that each kind costs", bars(errors.map((e) => row(e, e.ap_cost, percent(e.ap_cost))), { label: "Average precision lost, in points" })));
}

function confusionCard({ names, counts }) {
  const sums = counts.map((row) => row.reduce((a, b) => a + b, 0));
  const last = names.length - 1;
  const share = (i, j) => (sums[i] ? counts[i][j] / sums[i] : 0);
  const draw = (shares) => matrix({
    names, corner: "truth ╲ predicted", caption: "Confusion of classes",
    shade: share,
    tone: (i, j) => (i === j && i !== last ? "right" : "wrong"),
    text: (i, j) => (!counts[i][j] ? "" : shares ? (share(i, j) < 0.005 ? "·" : percent(share(i, j), 0)) : compact.format(counts[i][j])),
    describe: (i, j) => {
      const part = `${count(counts[i][j])} (${percent(share(i, j))} % of the row)`;
      if (i === last && j === last) return "background is not counted against background";
      if (i === last) return `${names[j]} predicted on background: ${part}`;
      if (j === last) return `${names[i]} missed: ${part}`;
      return `${names[i]} predicted as ${names[j]}: ${part}`;
    },
  });
  const room = el("div", {}, draw(true));
  const options = [{ value: "share", label: "Per cent of row" }, { value: "count", label: "Counts" }];
  return card(null, choice("Numbers shown", options, (value) => room.replaceChildren(draw(value === "share"))), room);
}

function scoreCard(scores) {
  const series = [
    { name: "hits", counts: scores.hits, className: "c1" },
    { name: "false positives", counts: scores.false_positives, className: "c2" },
  ];
  // False positives crowd at low scores; on an even axis the hits would vanish beside them.
  const draw = (log) => histogram({ edges: scores.edges, series, log, xLabel: "Score", yLabel: "Detections", label: "Number of hits and false positives by score" });
  const room = el("div", {}, draw(true));
  return card("Hits and false positives by score", el("div", { class: "controls between" }, blocks(series),
    choice("Axis", [{ value: "log", label: "Log" }, { value: "even", label: "Even" }], (value) => room.replaceChildren(draw(value === "log")))), room);
}

function calibrationCard({ ece, temperature, ece_scaled: scaled, bins }) {
  const used = bins.filter((bin) => bin.count > 0);
  const most = Math.max(1, ...used.map((bin) => bin.count));
  const series = [{
    name: "hits among detections", x: used.map((b) => b.score), y: used.map((b) => b.precision),
    className: "c1", markers: used.map((b) => 3 + 5 * Math.sqrt(b.count / most)), counts: used.map((b) => b.count),
  }];
  const text = isNumber(temperature) && isNumber(scaled)
    ? `Expected calibration error ${percent(ece)} %; ${percent(scaled)} % with temperature ${fixed(temperature)}.`
    : `Expected calibration error ${percent(ece)} %.`;
  return card("Reliability", note(`${text} On the dashed line scores tell the truth; larger dots hold more detections.`), lineChart({
    label: `Share of hits against score. ${text}`, xLabel: "Score", yLabel: "Share of hits (%)", xDomain: [0, 1], yDomain: [0, 1],
    yTicks: percentTicks, xFormat: (v) => fixed(v), yFormat: (v, s, k) => `${percent(v)} % of ${count(s.counts[k])}`,
    diagonal: true, snap: true, height: 290, series: () => series,
  }));
}

function sliceCard(title, rows, field, word) {
  if (!rows.length) return null;
  return card(title, bars(rows.map((row) => ({
    name: row.name, about: plural(row[field], word), value: row.ap50, text: percent(row.ap50),
  })), { most: 1, label: title }));
}

function trainingCards({ columns, rows }) {
  const steps = rows.map((row) => row[0]);
  const plots = new Map();
  for (const [k, column] of columns.entries()) {
    if (k === 0) continue;
    const [, part, name] = /^(?:(train|val)_)?(.*)$/.exec(column);
    if (!plots.has(name)) plots.set(name, []);
    const place = part === "val" ? 1 : 0;
    const y = rows.map((row) => row[k]);
    // Not every epoch is validated: a line alone would not show a single value.
    const markers = y.every(isNumber) ? null : [];
    plots.get(name).push({ name: part ?? name, x: steps, y, className: colour(place), markers });
  }
  // The loss comes first: it is what was minimised.
  const ordered = [...plots].sort(([a], [b]) => Number(b === "loss") - Number(a === "loss"));
  return el("div", { class: "multiples" }, ordered.map(([name, series]) => card(name.replaceAll("_", " "), legend(series), lineChart({
    label: `${name} by ${columns[0]}`, xLabel: columns[0], xFormat: short, yFormat: short, snap: true, height: 200, series: () => series,
  }))));
}
