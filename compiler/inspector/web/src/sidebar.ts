// The list of passes: how long each took, what it changed, and where the search found something.

import type { App } from "./app";
import { count, el, seconds } from "./dom";
import type { PassRun } from "./recording";

export class Sidebar {
  readonly element = el("nav", { class: "passes", "aria-label": "Passes" });
  private found = new Map<number, number>();
  private searching = 0;

  constructor(private readonly app: App) {
    for (const topic of ["pass", "skip"] as const) app.on(topic, () => this.draw());
    app.on("search", () => this.countFound());
    this.draw();
  }

  private draw(): void {
    const { recording, skipUnchanged } = this.app;
    const longest = Math.max(...recording.passes.map((run) => run.seconds), 1e-9);
    const total = recording.passes.reduce((sum, run) => sum + run.seconds, 0);
    const unchanged = recording.passes.filter((run) => run.before === run.after && !run.error).length;
    const entries = recording.passes.flatMap((run, i) =>
      skipUnchanged && run.before === run.after && !run.error && i !== this.app.pass ? [] : [this.entry(run, i, longest)]);
    this.element.replaceChildren(
      el("header", {},
        el("h2", {}, "Passes"),
        el("span", { class: "quiet" }, `${recording.passes.length} in ${seconds(total)}`)),
      el("ol", {}, this.input(), ...entries),
      ...(unchanged > 0 ? [el("button", {
        class: "toggle skip", title: "Key: h", "aria-pressed": String(skipUnchanged), onclick: () => {
          this.app.skipUnchanged = !skipUnchanged;
          this.app.emit("skip");
        },
      }, skipUnchanged ? `show ${unchanged} that changed nothing` : `hide ${unchanged} that changed nothing`)] : []),
    );
    this.element.querySelector(".selected")?.scrollIntoView({ block: "nearest" });
  }

  private input(): HTMLElement {
    return el("li", {}, el("button", {
      class: `pass ${this.app.pass < 0 ? "selected" : ""}`, "data-pass": -1, onclick: () => this.app.selectPass(-1),
    }, el("span", { class: "pass-name" }, "input"), this.foundBadge(0)));
  }

  private entry(run: PassRun, i: number, longest: number): HTMLElement {
    const changed = run.before !== run.after;
    const options = run.spec.slice(run.name.length);
    const part = (sign: string, value: number, kind: string, title: string) =>
      value > 0 && el("span", { class: `change ${kind}`, title: `${count(value)} ops ${title}` }, `${sign}${count(value)}`);
    return el("li", {}, el("button", {
      class: `pass ${i === this.app.pass ? "selected" : ""} ${changed ? "" : "unchanged"} ${run.error ? "failed" : ""}`,
      "data-pass": i, title: `${run.spec}\nShift-click compares with the stage that is shown on the left`,
      onclick: (event: MouseEvent) => this.app.selectPass(i, event.shiftKey ? this.app.left : null),
    },
      el("span", { class: "pass-name" }, run.name), this.foundBadge(run.after),
      options && el("span", { class: "pass-options" }, options),
      el("span", { class: "pass-changes" },
        run.error ? el("span", { class: "change removed" }, "failed")
          : changed ? null : el("span", { class: "change none" }, "no change"),
        part("+", run.added, "added", "new"), part("−", run.removed, "removed", "gone"), part("~", run.modified, "modified", "changed in place"),
        el("span", { class: "pass-time" }, run.error ? "" : seconds(run.seconds))),
      el("span", { class: "pass-bar", style: `width:${(100 * run.seconds) / longest}%` })));
  }

  private foundBadge(stage: number): HTMLElement | null {
    const found = this.found.get(stage);
    return found ? el("span", { class: "change found", title: `${count(found)} lines found` }, count(found)) : null;
  }

  /** Counts the rows found in every stage, one stage a turn, so that typing stays smooth. */
  private countFound(): void {
    this.found = new Map();
    const needle = this.app.search.toLowerCase();
    const run = ++this.searching;
    if (needle.length < 2) return this.draw();
    const search = (index: number): void => {
      if (run !== this.searching) return;
      if (index >= this.app.recording.stageCount) return this.draw();
      const stage = this.app.recording.stage(index);
      let found = 0;
      for (let row = 0; row < stage.rows; row++) if (stage.text(row).toLowerCase().includes(needle)) found++;
      this.found.set(index, found);
      setTimeout(() => search(index + 1));
    };
    setTimeout(() => search(0), 150);
  }
}
