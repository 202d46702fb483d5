// The bar on top, the theme, and the start.

function themeButton() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const root = document.documentElement;
  const button = el("button", { type: "button", class: "chip theme" });
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : dark.matches);
  const say = () => {
    button.textContent = isDark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${isDark() ? "light" : "dark"} colours`);
  };
  const stored = memory.get("theme");
  if (stored === "dark" || stored === "light") root.dataset.theme = stored;
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    memory.set("theme", root.dataset.theme);
    say();
  });
  dark.addEventListener("change", say);
  say();
  return button;
}

function start() {
  const report = JSON.parse(document.getElementById("data").textContent);
  const sections = buildPage(report).filter(Boolean);
  const links = sections.map((part) => el("a", { href: `#${part.id}` }, part.querySelector("h2").textContent));
  document.getElementById("bar").append(
    el("header", {}, el("h1", {}, report.title), themeButton()),
    el("nav", { "aria-label": "Sections" }, links));
  document.getElementById("content").append(...sections);
  // The link of the section that is being read is marked.
  const marks = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      const link = links[sections.indexOf(entry.target)];
      if (entry.isIntersecting) {
        for (const other of links) other.removeAttribute("aria-current");
        link.setAttribute("aria-current", "true");
      }
    }
  }, { rootMargin: "-20% 0px -70% 0px" });
  for (const part of sections) marks.observe(part);
}

start();
