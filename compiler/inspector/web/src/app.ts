// What the views share: which pass is shown, which op is followed, what is searched for; and who wants to know of changes.

import type { PassRun, Recording } from "./recording";

export type View = "compare" | "graph" | "cost" | "code";
export interface Focus { stage: number; op: number }
export type Topic = "pass" | "focus" | "search" | "view" | "skip" | "theme";

export class App {
  /** -1 shows the input alone. */
  pass: number;
  /** The stage on the left where it is not the one before the pass. */
  since: number | null = null;
  focus: Focus | null = null;
  search = "";
  view: View = "compare";
  skipUnchanged = false;
  private readonly listeners = new Map<Topic, (() => void)[]>();

  constructor(readonly recording: Recording) {
    const changing = recording.passes.findIndex((run) => run.before !== run.after);
    this.pass = changing;
  }

  on(topic: Topic, listener: () => void): void {
    this.listeners.set(topic, [...(this.listeners.get(topic) ?? []), listener]);
  }

  emit(topic: Topic): void {
    for (const listener of this.listeners.get(topic) ?? []) listener();
  }

  get run(): PassRun | null { return this.pass < 0 ? null : this.recording.passes[this.pass]; }
  get left(): number { return this.since ?? this.run?.before ?? 0; }
  get right(): number { return this.run?.after ?? 0; }

  selectPass(pass: number, since: number | null = null): void {
    this.pass = Math.max(-1, Math.min(pass, this.recording.passes.length - 1));
    this.since = since !== null && since < this.right ? since : null;
    this.emit("pass");
  }

  /** The next pass in a direction; with `changed`, the next one that changed something. */
  step(direction: 1 | -1, changed: boolean): void {
    for (let at = this.pass + direction; at >= -1 && at < this.recording.passes.length; at += direction) {
      const run = this.recording.passes[at];
      if (at < 0 || !changed || run.before !== run.after || run.error) return this.selectPass(at);
    }
  }

  /** Shows the pass that made a stage. */
  selectStage(stage: number): void {
    if (stage === this.left || stage === this.right) return;
    this.selectPass(this.recording.passes.findIndex((run) => run.after === stage && run.before !== stage));
  }

  follow(focus: Focus | null): void {
    this.focus = focus;
    this.emit("focus");
  }

  /** What the followed op is in a stage: op number -> how it is known. */
  focusIn(stage: number): Map<number, string> {
    if (!this.focus) return new Map();
    return new Map(this.recording.follow(this.focus.op, this.focus.stage, stage).map(({ op, kind }) => [op, kind]));
  }

  show(view: View): void {
    this.view = view;
    this.emit("view");
  }

  find(text: string): void {
    this.search = text;
    this.emit("search");
  }
}
