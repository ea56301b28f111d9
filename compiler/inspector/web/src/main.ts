// The page: header, list of passes, the view that was chosen, the op that is followed; and the keyboard.

import "./style.css";
import { App, type View } from "./app";
import { CodeView } from "./code";
import { CompareView } from "./compare";
import { CostView } from "./cost";
import { count, el } from "./dom";
import { GraphView } from "./graph";
import { readPayload, Recording } from "./recording";
import { Sidebar } from "./sidebar";
import { Trace } from "./trace";

const VIEWS: [View, string][] = [["compare", "IR"], ["graph", "Graph"], ["cost", "Cost"], ["code", "Target code"]];
const KEYS: [string, string][] = [
  ["j  k", "next, previous pass that changed something"],
  ["J  K", "next, previous pass of all"],
  ["h", "hide passes that changed nothing"],
  ["n  p", "next, previous change (or match)"],
  ["u", "only changes, or every line"],
  ["f", "fold or open all functions"],
  ["/", "search; Enter and Shift-Enter go through the matches"],
  ["1 2 3 4", "IR, graph, cost, target code"],
  ["+  −  0", "zoom the graph, fit it"],
  ["t", "light or dark"],
  ["Esc", "close what is open"],
];

function start(recording: Recording): void {
  const app = new App(recording);
  // Before the views hear of it: what is hidden has no size to lay out in.
  app.on("view", () => showView());
  const compare = new CompareView(app), graph = new GraphView(app), cost = new CostView(app), code = new CodeView(app);
  const sidebar = new Sidebar(app), trace = new Trace(app);
  const views: Record<View, HTMLElement> = { compare: compare.element, graph: graph.element, cost: cost.element, code: code.element };
  const available = VIEWS.filter(([view]) => view !== "code" || recording.codes.length > 0);

  const search = el("input", { type: "search", placeholder: "Search the IR", "aria-label": "Search", title: "Key: /" });
  const hits = el("span", { class: "hits quiet" });
  let typing = 0;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = window.setTimeout(() => app.find(search.value), 120);
  });
  search.addEventListener("keydown", (event) => {
    // A search that still waits would come after this key, and go back to the first match.
    if (event.key === "Enter" || event.key === "Escape") clearTimeout(typing);
    if (event.key === "Enter") {
      if (app.search !== search.value) app.find(search.value);
      else (app.view === "code" ? code : compare).nextHit(event.shiftKey ? -1 : 1);
    }
    if (event.key === "Escape") {
      search.value = "";
      app.find("");
      search.blur();
    }
    event.stopPropagation();
  });

  const tabs = available.map(([view, label], i) => el("button", { role: "tab", "data-view": view, title: `Key: ${i + 1}`, onclick: () => app.show(view) }, label));
  const help = el("dialog", { class: "help" }, el("h2", {}, "Keys"),
    el("dl", {}, ...KEYS.flatMap(([keys, what]) => [el("dt", {}, ...keys.split(/\s+/).map((key) => el("kbd", {}, key))), el("dd", {}, what)])),
    el("p", { class: "quiet" }, "Point at a value to light its definition and its uses. Click an op to follow it through the passes. Shift-click a pass to compare it with the stage on the left."),
    el("form", { method: "dialog" }, el("button", { class: "toggle" }, "close")));
  const toggleTheme = () => {
    const dark = document.documentElement.dataset.theme
      ? document.documentElement.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    app.emit("theme");
  };

  document.getElementById("app")!.replaceChildren(
    el("header", { class: "top" },
      el("span", { class: "brand" }, "Sterna"), el("h1", { class: "ellipsis", title: recording.title }, recording.title),
      el("div", { role: "tablist", class: "tabs" }, ...tabs),
      el("div", { class: "search" }, search, hits),
      el("button", { class: "icon", title: "Light or dark (t)", "aria-label": "Light or dark", onclick: toggleTheme }, "◐"),
      el("button", { class: "icon", title: "Keys (?)", "aria-label": "Keys", onclick: () => help.showModal() }, "?")),
    el("div", { class: "middle" }, sidebar.element, el("div", { class: "views" }, ...available.map(([view]) => views[view]), trace.element)), help);

  const showView = () => {
    for (const [view] of available) views[view].hidden = view !== app.view;
    for (const tab of tabs) tab.setAttribute("aria-selected", String(tab.dataset.view === app.view));
    hits.textContent = app.search ? `${compare.hitNumber} of ${count(compare.hitCount)}` : "";
  };
  app.on("search", showView);
  app.on("pass", showView);

  const keys: Record<string, () => void> = {
    j: () => app.step(1, true), k: () => app.step(-1, true), J: () => app.step(1, false), K: () => app.step(-1, false),
    h: () => { app.skipUnchanged = !app.skipUnchanged; app.emit("skip"); },
    n: () => compare.next(1), p: () => compare.next(-1), u: () => compare.toggleOnlyChanges(), f: () => compare.toggleFold(),
    "/": () => { search.focus(); search.select(); },
    "+": () => graph.zoomBy(1.3), "=": () => graph.zoomBy(1.3), "-": () => graph.zoomBy(1 / 1.3), "0": () => graph.fit(),
    t: toggleTheme, "?": () => help.showModal(),
    Escape: () => { if (app.focus) app.follow(null); else if (app.search) { search.value = ""; app.find(""); } },
  };
  available.forEach(([view], i) => { keys[String(i + 1)] = () => app.show(view); });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement) return;
    const action = keys[event.key];
    if (!action || help.open) return;
    event.preventDefault();
    action();
  });
  showView();
  compare.load();
}

/** A served report asks its server, once a second, whether there is a newer one. */
function reloadWhenNewer(): void {
  const version = document.querySelector<HTMLMetaElement>('meta[name="sterna-version"]')?.content;
  if (!version) return;
  setInterval(async () => {
    try {
      const answer = await fetch("version", { cache: "no-store" });
      if (answer.ok && (await answer.text()) !== version) location.reload();
    } catch {
      // The server was stopped; the page stays as it is.
    }
  }, 1000);
}

readPayload().then(
  (payload) => {
    start(new Recording(payload));
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
    reloadWhenNewer();
  },
  (error: unknown) => {
    document.getElementById("app")!.append(el("p", { class: "failure" }, `This report cannot be read: ${error}`));
  },
);
