// The gallery: pictures as cards, filtered by kind, class and text.

/* options: {images, classes, scored, score}. Returns a section's content with `show(tag)`, which
   other parts of the page call to send the reader to an example. */
function makeGallery({ images, classes, scored, score }) {
  const view = { truth: true, predictions: true, score: scored ? score : 0, scored };
  const wanted = { tag: "all", name: "", text: "" };
  const grid = el("div", { class: "gallery" });
  const status = el("p", { class: "note", role: "status" });
  const present = new Set(images.flatMap((image) => [...image.truth, ...image.found].map((b) => b.name)));
  const viewer = makeViewer(view, () => {
    row.replaceChildren(...switches(view, refresh));
    refresh();
  });
  let shown = [];

  const tagged = (image, tag, counts) =>
    tag === "all" || (tag === "best" || tag === "worst" ? image.tags.includes(tag) : counts.kinds.has(tag));

  function matches(image, counts) {
    if (!tagged(image, wanted.tag, counts)) return false;
    const { truth, found } = visible(image, view);
    const names = [...truth, ...found].map((b) => b.name);
    if (wanted.name && !names.includes(wanted.name)) return false;
    const words = [image.image_id, image.note, ...names].join(" ").toLowerCase();
    return wanted.text.toLowerCase().split(/\s+/).every((word) => words.includes(word));
  }

  function cardOf(image, counts) {
    const summary = scored
      ? [plural(counts.hits, "hit"), `${counts.wrong} wrong`, `${counts.missed} missed`].join(" · ")
      : plural(image.truth.length, "object");
    return el("button", {
      type: "button", class: "shot", "aria-label": `${image.image_id}: ${summary}`,
      onclick: () => viewer.present(shown, shown.indexOf(image)),
    }, drawn(image, view, false).node,
      el("span", { class: "caption" },
        el("span", { class: "id" }, image.image_id), el("span", { class: "counts" }, summary),
        image.note ? el("span", { class: "why" }, image.note) : null));
  }

  function refresh() {
    const counts = new Map(images.map((image) => [image, tally(image, view)]));
    shown = images.filter((image) => matches(image, counts.get(image)));
    for (const [tag, button] of chips) {
      button.textContent = count(images.filter((image) => tagged(image, tag, counts.get(image))).length);
    }
    grid.replaceChildren(...shown.map((image) => cardOf(image, counts.get(image))));
    status.textContent = shown.length ? `${shown.length} of ${plural(images.length, "picture")}` : "No picture fits; loosen a filter.";
  }

  const tags = scored ? ["all", "best", "worst", ...ERROR_KINDS, "missed"] : ["all"];
  const tagChoice = choice("Kind of example",
    tags.map((tag) => ({ value: tag, label: tag, count: 0 })),
    (tag) => {
      wanted.tag = tag;
      refresh();
    });
  const chips = tags.map((tag, k) => [tag, tagChoice.children[k].querySelector(".n")]);
  const names = el("select", {
    "aria-label": "Class", onchange: (event) => {
      wanted.name = event.target.value;
      refresh();
    },
  }, el("option", { value: "" }, "All classes"),
    classes.filter((name) => present.has(name)).map((name) => el("option", { value: name }, name)));
  const search = el("input", {
    type: "search", placeholder: "Name or class…", "aria-label": "Search",
    oninput: (event) => {
      wanted.text = event.target.value.trim();
      refresh();
    },
  });
  const row = el("div", { class: "controls" }, switches(view, refresh));
  const content = el("div", { class: "card" },
    scored ? tagChoice : null, el("div", { class: "controls" }, names, search), row,
    boxKey(scored), status, grid, viewer);
  refresh();
  return {
    content,
    show(tag) {
      tagChoice.choose(tag);
      content.closest("section").scrollIntoView();
    },
  };
}
