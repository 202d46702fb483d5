// The report of a data set. `report` is contract.ExploreReport.

function buildPage(report) {
  const { statistics, patterns, findings } = report;
  const gallery = report.gallery.length
    ? makeGallery({ images: report.gallery, classes: statistics.classes, scored: false })
    : null;
  return [
    section("overview", "Overview", report.facts.map(([name, value]) => `${name}: ${value}`).join(" · "), overview(statistics)),
    findings ? section("findings", "Findings", "What the doctor found, worst first.", findingsCard(findings)) : null,
    section("classes", "Classes", `Class names from ${statistics.classes_from}. Difficult objects are included.`, classTable(statistics)),
    section("sizes", "Sizes", "How large images and objects are, and how many objects share an image.", sizeCards(statistics)),
    statistics.objects ? section("together", "Together", "Images that hold both classes; on the diagonal, images with two or more objects of the class. The shade is the share of the row's images.", cooccurrenceCard(statistics, patterns.cooccurrence)) : null,
    statistics.objects ? section("places", "Places", "Where the centres of boxes lie in the image, each map scaled to its own maximum.", places(statistics, patterns.centres)) : null,
    patterns.anchors.length ? section("anchors", "Anchors", "Box shapes by k-means on IoU distance (Redmon & Farhadi, 2017), in per cent of the image's width and height. The mean best IoU says how well so many shapes cover all boxes.", anchorCards(patterns.anchors)) : null,
    gallery ? section("gallery", "Gallery", "Photos drawn at random with their ground truth. Choose one to enlarge it.", gallery.content) : null,
  ];
}

function overview(s) {
  return el("div", { class: "tiles" },
    tile("Images", count(s.images), "", s.images_without_objects ? `${count(s.images_without_objects)} without objects` : "each with objects"),
    tile("Objects", count(s.objects), "", `${fixed(s.mean_boxes_per_image)} an image`),
    tile("Classes", count(s.classes.length), "", `${count(s.classes.filter((name) => !s.objects_per_class[name]).length)} without objects`),
    tile("Difficult", count(s.difficult), "", `${count(s.truncated)} truncated, ${count(s.occluded)} occluded`),
    tile("Missing photos", count(s.missing_photos), "", s.missing_photos ? `such as ${s.missing_photo_ids.slice(0, 3).join(", ")}` : "all are there"));
}

function findingsCard(findings) {
  if (!findings.length) return card(null, el("p", {}, "Nothing was found that would break or spoil a training."));
  const severities = [...new Set(findings.map((f) => f.severity))];
  let wanted = "";
  const place = new Map(findings.map((finding, k) => [finding, k]));
  const text = (name, field) => ({ name, key: (f) => f[field], text: (f) => f[field] });
  const table = sortableTable({
    caption: "Findings", rows: findings, filter: (f) => !wanted || f.severity === wanted,
    columns: [
      { name: "Severity", key: (f) => place.get(f), hint: "Sorts as found: worst first", node: (f) => el("span", { class: "badge", "data-rank": Math.min(2, severities.indexOf(f.severity)) }, f.severity) },
      { ...text("Kind", "kind"), className: "words" },
      { name: "File", key: (f) => f.file, node: (f) => [el("span", { class: "file" }, f.file), f.field ? el("span", { class: "field" }, f.field) : null] },
      { ...text("Found", "message"), className: "prose" }, { ...text("Remedy", "remedy"), className: "prose" },
    ],
  });
  const filter = choice("Severity", [
    { value: "", label: "All", count: findings.length },
    ...severities.map((name) => ({ value: name, label: name, count: findings.filter((f) => f.severity === name).length })),
  ], (value) => {
    wanted = value;
    table.refresh();
  });
  return [filter, el("div", { class: "card flush tall" }, table)];
}

function classTable(s) {
  const most = Math.max(1, ...Object.values(s.objects_per_class));
  const rows = s.classes.map((name) => ({
    name, objects: s.objects_per_class[name], images: s.images_per_class[name], difficult: s.difficult_per_class[name],
  }));
  const number = (name, field) => ({ name, numeric: true, key: (r) => r[field], text: (r) => count(r[field]) });
  return el("div", { class: "card flush" }, sortableTable({
    caption: "Objects of each class", rows, sort: 1, descending: true,
    columns: [
      { name: "Class", key: (r) => r.name, text: (r) => r.name },
      { name: "Objects", numeric: true, className: "wide", key: (r) => r.objects, node: (r) => [meter(r.objects / most), el("span", { class: "with-meter" }, count(r.objects))] },
      { name: "Share", numeric: true, hint: "Of all objects, in per cent", key: (r) => r.objects, text: (r) => percent(s.objects ? r.objects / s.objects : null) },
      number("Images", "images"),
      { name: "Per image", numeric: true, hint: "Objects in the images that have the class", key: (r) => (r.images ? r.objects / r.images : null), text: (r) => fixed(r.images ? r.objects / r.images : null) },
      number("Difficult", "difficult"),
    ],
  }));
}

function sizeCards(s) {
  const sides = [
    { name: "widths", counts: s.width_histogram.counts, className: "c1" },
    { name: "heights", counts: s.height_histogram.counts, className: "c2" },
  ];
  const one = (title, values, about, options) => card(title, note(about), histogram({ ...values, series: [{ name: options.unit, counts: values.counts, className: "c1" }], label: title, ...options }));
  const middle = (distribution, digits) => (isNumber(distribution.quantiles["50"])
    ? `Median ${fixed(distribution.quantiles["50"], digits)}; nine of ten lie in ${fixed(distribution.quantiles["5"], digits)} – ${fixed(distribution.quantiles["95"], digits)}.`
    : "No objects.");
  const per = Object.entries(s.boxes_per_image).map(([number, images]) => [Number(number), images]);
  const most = Math.max(0, ...per.map(([number]) => number));
  // One bin a number; a crowd of hundreds shares the last.
  const cap = Math.min(most, 24);
  const counts = Array.from({ length: cap + 1 }, () => 0);
  for (const [number, images] of per) counts[Math.min(number, cap)] += images;
  const names = counts.map((_, k) => (k === cap && most > cap ? `${k}+` : String(k)));
  return el("div", { class: "pair" },
    card("Image sizes", blocks(sides), histogram({ edges: s.width_histogram.edges, series: sides, xLabel: "Pixels", yLabel: "Images", label: "Widths and heights of images", format: (v) => String(Math.round(v)) })),
    card("Objects per image", note(`Mean ${fixed(s.mean_boxes_per_image)}.`), columnsChart(names, counts)),
    one("Object sizes", s.relative_box_sizes.histogram, `Square root of box area over image area. ${middle(s.relative_box_sizes, 2)}`, { unit: "objects", xLabel: "Relative size", yLabel: "Objects" }),
    one("Aspect ratios", s.aspect_ratios.histogram, `Width over height. ${middle(s.aspect_ratios, 2)}`, { unit: "objects", xLabel: "Width / height", yLabel: "Objects", equal: true, format: (v) => fixed(v, v < 1 && v > 0 ? 2 : v % 1 ? 1 : 0) }));
}

const columnsChart = (names, counts) => histogram({
  edges: [...names.keys(), names.length], series: [{ name: "images", counts, className: "c1" }], equal: true, names,
  xLabel: "Objects", yLabel: "Images", label: "Number of images by number of objects",
});

function cooccurrenceCard(s, together) {
  const images = s.classes.map((name) => s.images_per_class[name]);
  const share = (i, j) => (images[i] ? together[i][j] / images[i] : 0);
  return card(null, matrix({
    names: s.classes, corner: "with", caption: "Images that hold both classes", shade: share, tone: () => "right",
    text: (i, j) => (together[i][j] ? compact.format(together[i][j]) : ""),
    describe: (i, j) => (i === j
      ? `${count(together[i][i])} of ${plural(images[i], "image")} with ${s.classes[i]} hold more than one`
      : `${count(together[i][j])} of ${plural(images[i], "image")} with ${s.classes[i]} hold ${s.classes[j]} (${percent(share(i, j))} %)`),
  }));
}

function places(s, centres) {
  const present = s.classes.filter((name) => s.objects_per_class[name]);
  const all = present.map((name) => centres[name]).reduce((sum, rows) => sum.map((row, i) => row.map((v, j) => v + rows[i][j])));
  const map = (name, rows, number) => el("figure", { class: "place" },
    heatMap(rows, `Centres of ${name}`), el("figcaption", {}, el("span", {}, name), el("span", { class: "num" }, count(number))));
  return el("div", { class: "card places" }, map("all classes", all, s.objects), present.map((name) => map(name, centres[name], s.objects_per_class[name])));
}

function anchorCards(anchors) {
  const room = el("div", { class: "anchor-room" });
  const draw = (k) => {
    const { sizes, mean_iou: iou } = anchors.find((a) => a.k === Number(k));
    const shapes = svg("svg", { class: "anchors", viewBox: "0 0 100 100", role: "img", "aria-label": `${sizes.length} anchors in the image's frame` },
      svg("rect", { class: "unit", width: 100, height: 100 }),
      [...sizes].map(([w, h], i) => svg("rect", { class: `anchor ${colour(i)}`, x: 50 * (1 - w), y: 50 * (1 - h), width: 100 * w, height: 100 * h })).reverse());
    const list = el("table", { class: "plain" }, el("caption", { class: "hidden" }, "Anchors, relative to the image"),
      el("thead", {}, el("tr", {}, ["Anchor", "Width", "Height", "W / H"].map((name, i) => el("th", { scope: "col", class: i ? "num" : null }, name)))),
      el("tbody", {}, sizes.map(([w, h], i) => el("tr", {}, el("th", { scope: "row" }, swatch({ className: colour(i) }), ` ${i + 1}`),
        el("td", { class: "num" }, percent(w)), el("td", { class: "num" }, percent(h)), el("td", { class: "num" }, fixed(w / h))))));
    room.replaceChildren(note(`Mean best IoU ${percent(iou)} % with ${plural(sizes.length, "anchor")}.`), el("div", { class: "split" }, shapes, list));
  };
  const first = anchors.some((a) => a.k === 5) ? 5 : anchors[anchors.length - 1].k;
  draw(first);
  const series = [{ name: "mean best IoU", x: anchors.map((a) => a.k), y: anchors.map((a) => a.mean_iou), className: "c1", markers: anchors.map(() => 3.5) }];
  return el("div", { class: "pair" },
    card("Shapes", choice("Number of anchors", anchors.map((a) => ({ value: String(a.k), label: String(a.k) })), draw, String(first)), room),
    card("How many are enough", lineChart({
      label: "Mean best IoU by number of anchors", xLabel: "Anchors", yLabel: "Mean best IoU (%)", yDomain: [0, 1], yTicks: percentTicks,
      xTicks: () => anchors.map((a) => [a.k, String(a.k)]), xFormat: String, yFormat: (v) => `${percent(v)} %`, snap: true, series: () => series,
    })));
}
