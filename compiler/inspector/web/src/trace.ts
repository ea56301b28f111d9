// The op that is followed: its place in the user's program, what it was and what it became in every stage, what it costs.

import type { App } from "./app";
import { bytes, count, el, short } from "./dom";
import { highlight } from "./highlight";
import type { Cost, Place } from "./recording";

const AROUND = 3;
const MOST_OPS = 6;
const KNOWN_BY: Record<string, string> = {
  same: "the same op",
  replaced: "replaced by a rewrite",
  cloned: "copied",
  absorbed: "absorbed: only ops that were replaced used it",
  location: "linked by its source location only",
};

export class Trace {
  readonly element = el("aside", { class: "trace", "aria-label": "Followed op", hidden: true });

  constructor(private readonly app: App) {
    app.on("focus", () => this.draw());
    app.on("pass", () => this.draw());
  }

  private draw(): void {
    const { focus, recording } = this.app;
    this.element.hidden = !focus;
    if (!focus) return;
    const stage = recording.stage(focus.stage);
    const title = stage.text(stage.opRow.get(focus.op)!).trim();
    const cost = recording.opCost(focus.stage).get(focus.op);
    this.element.replaceChildren(
      el("header", {},
        el("strong", {}, recording.opName(focus.op)),
        el("span", { class: "quiet ellipsis" }, title),
        cost ? el("span", { class: "quiet" }, costText(cost)) : null,
        el("button", { class: "close", title: "Key: Escape", "aria-label": "close", onclick: () => this.app.follow(null) }, "×")),
      el("div", { class: "trace-body" }, this.source(), this.history()),
    );
    this.element.querySelector(".trace-stage.here")?.scrollIntoView({ block: "nearest" });
  }

  private source(): HTMLElement {
    const { focus, recording } = this.app;
    // An op that a pass made without a location shows the places of what it came from.
    // One inside a fused op, without a place of its own, has that of the op around it.
    const around = recording.stage(focus!.stage).ancestors(focus!.op);
    let places = around.map((op) => recording.places(op)).find((found) => found.length > 0) ?? [];
    for (let stage = focus!.stage - 1; stage >= 0 && places.length === 0; stage--) {
      places = recording.follow(focus!.op, focus!.stage, stage).flatMap(({ op }) => recording.places(op));
    }
    const unique = [...new Map(places.map((place) => [JSON.stringify(place), place])).values()];
    return el("div", { class: "trace-source" },
      el("h3", {}, "In the program"),
      ...(unique.length > 0 ? unique.slice(0, MOST_OPS).map((place) => this.place(place)) : [el("p", { class: "quiet" }, "No location is known.")]),
      unique.length > MOST_OPS && el("p", { class: "quiet" }, `and ${unique.length - MOST_OPS} more places`));
  }

  private place({ path, file, line }: Place): HTMLElement {
    const text = this.app.recording.files[file];
    const lines = text?.split("\n") ?? [];
    const first = Math.max(0, line - 1 - AROUND);
    return el("figure", {},
      el("figcaption", {}, path && el("strong", {}, path), file && el("span", { class: "quiet file" }, `${file}:${line}`)),
      lines.length > 0 && el("pre", {}, ...lines.slice(first, line + AROUND).map((source, i) => {
        const code = el("code", {});
        highlight(code, source || " ", "python");
        return el("div", { class: first + i + 1 === line ? "source-line here" : "source-line" },
          el("span", { class: "number" }, String(first + i + 1)), code);
      })));
  }

  private history(): HTMLElement {
    const { focus, recording } = this.app;
    const stages: HTMLElement[] = [];
    let last = "";
    for (let index = 0; index < recording.stageCount; index++) {
      const stage = recording.stage(index);
      const ops = recording.follow(focus!.op, focus!.stage, index);
      const shape = JSON.stringify(ops.map(({ op }) => [op, stage.text(stage.opRow.get(op)!).replaceAll(/%[\w$.-]+/g, "%")]));
      const repeats = shape === last && index !== focus!.stage;
      last = shape;
      stages.push(el("div", { class: `trace-stage ${index === focus!.stage ? "here" : ""} ${repeats ? "repeats" : ""}`, "data-stage": index },
        el("span", { class: "trace-stage-name" }, recording.stageName(index)),
        el("div", { class: "trace-ops" },
          ...(repeats ? [el("span", { class: "quiet" }, "unchanged")]
            : ops.length === 0 ? [el("span", { class: "quiet" }, index > focus!.stage ? "gone" : "not there yet")]
              : ops.slice(0, MOST_OPS).map(({ op, kind }) => this.opButton(index, op, kind))),
          !repeats && ops.length > MOST_OPS && el("span", { class: "quiet" }, `and ${count(ops.length - MOST_OPS)} more ops`))));
    }
    return el("div", { class: "trace-history" }, el("h3", {}, "Through the passes"), ...stages);
  }

  private opButton(index: number, op: number, kind: string): HTMLElement {
    const stage = this.app.recording.stage(index);
    const text = stage.text(stage.opRow.get(op)!).trim();
    const code = el("code", {});
    highlight(code, text.length > 240 ? `${text.slice(0, 240)} …` : text, "mlir");
    return el("button", {
      class: "trace-op", title: KNOWN_BY[kind], onclick: () => {
        this.app.focus = { stage: index, op };
        this.app.selectStage(index);
        this.app.emit("focus");
      },
    }, kind !== "same" && el("span", { class: `kind ${kind}` }, kind), code);
  }
}

function costText(cost: Cost): string {
  const weights = cost.weights.map(([encoding, size]) => `${bytes(size)} of ${encoding} weights`);
  const parts = [
    cost.additions && `${short(cost.additions)} additions`,
    cost.multiplications && `${short(cost.multiplications)} multiplications`,
    ...weights,
  ];
  return parts.filter(Boolean).join(" · ");
}
