// What one token costs after every pass, the floor that memory sets at a bandwidth, and the ops that cost most.

import type { App } from "./app";
import { bytes, count, el, seconds, short } from "./dom";
import type { Cost } from "./recording";

interface Column { name: string; unit: string; title: string; value(cost: Cost): number; write(value: number): string }

const MOST_OPS = 200;

export class CostView {
  readonly element = el("section", { class: "cost" });
  private bandwidth = 20;
  private sortBy: number | null = null;

  constructor(private readonly app: App) {
    app.on("pass", () => this.draw());
    app.on("view", () => this.draw());
    app.on("focus", () => this.draw());
  }

  draw(): void {
    if (this.app.view !== "cost") return;
    const scroll = this.element.scrollTop;
    this.element.replaceChildren(this.bandwidthField(), this.passTable(), this.opTable());
    this.element.scrollTop = scroll;
  }

  private encodings(): string[] {
    const { recording } = this.app;
    const names = new Set<string>();
    for (let stage = 0; stage < recording.stageCount; stage++) {
      for (const [encoding] of recording.total(stage).weights) names.add(encoding);
    }
    return [...names];
  }

  private columns(): Column[] {
    const weight = (name: string) => (cost: Cost) => cost.weights.find(([encoding]) => encoding === name)?.[1] ?? 0;
    return [
      ...this.encodings().map((name) => ({ name: `${name} weights`, unit: "bytes", title: name === "trit" ? "Trits that have no encoding yet: one byte each" : `Weights read as ${name}`, value: weight(name), write: bytes })),
      { name: "additions", unit: "ops", title: "Scalar additions and subtractions", value: (c) => c.additions, write: short },
      { name: "multiplications", unit: "ops", title: "Scalar multiplications", value: (c) => c.multiplications, write: short },
      { name: "other", unit: "ops", title: "Divisions, roots, exponentials, comparisons, roundings, conversions", value: (c) => c.other, write: short },
      { name: "activations", unit: "bytes", title: "Tensors read and written between ops; they stay in cache", value: (c) => c.activations, write: bytes },
      { name: "state", unit: "bytes", title: "Recurrent state, read and written", value: (c) => c.state, write: bytes },
    ];
  }

  private floor(cost: Cost): number {
    return (cost.weights.reduce((sum, [, size]) => sum + size, 0) + cost.state) / (this.bandwidth * 1e9);
  }

  private bandwidthField(): HTMLElement {
    const answer = el("strong", {});
    const tell = () => {
      const time = this.floor(this.app.recording.total(this.app.right));
      answer.textContent = time > 0 ? `at least ${seconds(time)} a token · at most ${short(1 / time)} tokens/s` : "reads no weights";
    };
    tell();
    const input = el("input", {
      type: "number", min: "0.1", step: "any", value: this.bandwidth, id: "bandwidth", oninput: () => {
        this.bandwidth = Math.max(Number(input.value) || 0, 1e-6);
        tell();
        this.element.querySelector(".pass-costs")?.replaceWith(this.passTable());
      },
    });
    return el("div", { class: "bandwidth" },
      el("label", { for: "bandwidth" }, "Memory bandwidth"), input, el("span", {}, "GB/s"), answer,
      el("span", { class: "quiet" }, "Decoding one token: weights and state go through memory once, activations stay in cache."));
  }

  private passTable(): HTMLElement {
    const { recording } = this.app;
    const columns = this.columns();
    const rows: HTMLElement[] = [];
    for (let stage = 0; stage < recording.stageCount; stage++) {
      const cost = recording.total(stage);
      const before = stage > 0 ? recording.total(stage - 1) : null;
      const cells = columns.map((column) => this.delta(column.value(cost), before && column.value(before), column.write));
      const time = this.delta(this.floor(cost), before && this.floor(before), (value) => (value ? seconds(value) : "–"));
      rows.push(el("tr", { class: stage === this.app.right ? "selected" : "", onclick: () => this.app.selectStage(stage) },
        el("th", { scope: "row" }, recording.stageName(stage)), ...cells, time));
    }
    return el("table", { class: "costs pass-costs" },
      el("caption", {}, "How each pass changed the cost of one token"),
      el("thead", {}, el("tr", {}, el("th", {}, "after"), ...columns.map(({ name, title }) => el("th", { title }, name)), el("th", { title: "Weights and state over the bandwidth" }, "memory floor"))),
      el("tbody", {}, ...rows));
  }

  private delta(value: number, before: number | null, write: (value: number) => string): HTMLElement {
    const changed = before !== null && before !== value;
    const kind = changed ? (value < before! ? "less" : "more") : "";
    const title = changed ? `${write(before!)} before` : "";
    return el("td", { class: `${kind} ${value === 0 ? "zero" : ""}`, title }, value === 0 ? "–" : write(value));
  }

  private opTable(): HTMLElement {
    const { recording } = this.app;
    const stage = recording.stage(this.app.right);
    const columns = this.columns();
    const runs = recording.runs(stage.index);
    const focused = this.app.focusIn(stage.index);
    const entries = [...recording.opCost(stage.index)]
      .filter(([op]) => stage.opRow.has(op))
      .map(([op, cost]) => ({ op, cost, times: runs.get(stage.ancestors(op).at(-2) ?? op) ?? 1 }));
    const total = recording.total(stage.index);
    // At first by the weights that are read most of.
    const sortBy = this.sortBy ?? this.encodings().reduce((best, _, i) => (columns[i].value(total) > columns[best].value(total) ? i : best), 0);
    const column = columns[sortBy];
    entries.sort((a, b) => column.value(b.cost) * b.times - column.value(a.cost) * a.times);
    const greatest = columns.map((each) => Math.max(...entries.map(({ cost, times }) => each.value(cost) * times), 1));
    const rows = entries.slice(0, MOST_OPS).map(({ op, cost, times }) => {
      const place = recording.places(op)[0]?.path ?? stage.text(stage.opRow.get(op)!).match(/@"?([\w.$-]+)/)?.[1] ?? "";
      return el("tr", { class: focused.has(op) ? "selected" : "", onclick: () => this.app.follow({ stage: stage.index, op }) },
        el("th", { scope: "row" }, recording.opName(op), times > 1 && el("span", { class: "times", title: "its function runs this often" }, `×${times}`), el("span", { class: "quiet path" }, place)),
        ...columns.map((each, i) => {
          const value = each.value(cost) * times;
          return el("td", { class: value === 0 ? "zero" : "", style: value ? `--share:${(100 * value) / greatest[i]}%` : null }, value === 0 ? "–" : each.write(value));
        }));
    });
    return el("table", { class: "costs op-costs" },
      el("caption", {}, `Ops after ${recording.stageName(stage.index)}`, entries.length > MOST_OPS && el("span", { class: "quiet" }, ` the first ${MOST_OPS} of ${count(entries.length)}`)),
      el("thead", {}, el("tr", {}, el("th", {}, "op"), ...columns.map(({ name, title }, i) => el("th", {
        title: `${title}. Click to sort`, class: `sortable ${i === sortBy ? "sorted" : ""}`, onclick: () => {
          this.sortBy = i;
          this.draw();
        },
      }, name)))),
      el("tbody", {}, ...rows));
  }
}
