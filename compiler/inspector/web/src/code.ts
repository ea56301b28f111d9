// What the target emitted, beside the IR that it came from. A line of code belongs to the op that it names.

import type { App } from "./app";
import { count, el } from "./dom";
import { languageOf } from "./highlight";
import { charWidth, codeElement, codeLine, lightOnHover, lineHeight, occurrences } from "./listing";
import { Rows } from "./rows";

export class CodeView {
  readonly element = el("section", { class: "target-code" });
  private readonly head = el("div", { class: "compare-heads" });
  private readonly ir = new Rows("code-rows");
  private readonly code = new Rows("code-rows");
  private chosen = 0;
  private lines: string[] = [];
  private readonly lit = new Set<number>();
  /** The row of each side that a search came to. */
  private readonly at = new Map<Rows, number>();

  constructor(private readonly app: App) {
    const { codes } = app.recording;
    this.element.append(this.head, el("div", { class: "code-body" }, this.ir.element, this.code.element));
    lightOnHover(this.element);
    this.ir.element.addEventListener("click", (event) => {
      const cell = (event.target as HTMLElement).closest<HTMLElement>("[data-op]");
      if (cell) this.app.follow({ stage: this.stage.index, op: Number(cell.dataset.op) });
    });
    if (codes.length === 0) return;
    new ResizeObserver(() => this.layOut()).observe(this.code.element);
    app.on("view", () => { if (this.app.view === "code" && this.lines.length === 0) this.load(); });
    app.on("focus", () => this.showFocus());
    app.on("search", () => {
      this.layOut();
      this.nextHit(1);
    });
  }

  private get stage() { return this.app.recording.stage(this.app.recording.stageCount - 1); }

  private load(): void {
    const { codes } = this.app.recording;
    this.lines = codes[this.chosen].text.split("\n");
    const choice = el("select", { "aria-label": "Emitted code", onchange: () => { this.chosen = Number(choice.value); this.load(); } },
      ...codes.map(({ kind }, i) => el("option", { value: i, selected: i === this.chosen }, kind)));
    this.head.replaceChildren(
      el("div", { class: "compare-head" }, el("strong", {}, `after ${this.app.recording.stageName(this.stage.index)}`), el("span", { class: "quiet" }, `${count(this.stage.rows)} lines`)),
      el("div", { class: "compare-head" }, choice, el("span", { class: "quiet" }, `${count(this.lines.length)} lines`)));
    this.layOut();
    this.showFocus();
  }

  private layOut(): void {
    if (this.lines.length === 0 || this.code.element.clientWidth === 0) return;
    const { stage } = this;
    const width = charWidth();
    const columns = (rows: Rows) => Math.max(20, Math.floor((rows.element.clientWidth - 56) / width));
    const [left, right] = [columns(this.ir), columns(this.code)];
    const { focused } = this;
    this.ir.set({
      count: stage.rows,
      height: (row) => lineHeight(stage.text(row), left),
      render: (row) => {
        const text = stage.text(row), op = stage.owner[row];
        return el("div", { class: `cell ${focused.has(op) ? "focused" : ""}`, "data-op": op, style: `height:${lineHeight(text, left)}px` },
          el("span", { class: "number" }, String(row + 1)),
          codeElement(stage, row, left, { found: occurrences(text, this.app.search) }));
      },
    });
    const language = languageOf(this.app.recording.codes[this.chosen].kind);
    this.code.set({
      count: this.lines.length,
      height: (line) => lineHeight(this.lines[line], right),
      render: (line) => {
        const text = this.lines[line];
        return el("div", { class: `cell ${this.lit.has(line) ? "focused" : ""}`, style: `height:${lineHeight(text, right)}px` },
          el("span", { class: "number" }, String(line + 1)),
          codeLine(text, language, right, { found: occurrences(text, this.app.search) }));
      },
    });
  }

  /** Shows the next row of each side, after the one at its top, that holds what is searched for. */
  nextHit(direction: 1 | -1): void {
    const needle = this.app.search.toLowerCase();
    if (!needle || this.app.view !== "code") return;
    const { stage } = this;
    const sides: [Rows, number, (row: number) => string][] = [
      [this.ir, stage.rows, (row) => stage.text(row)], [this.code, this.lines.length, (row) => this.lines[row]],
    ];
    for (const [rows, length, text] of sides) {
      const start = this.at.get(rows) ?? -1;
      for (let step = 1; step <= length; step++) {
        const row = (start + direction * step + 2 * length) % length;
        if (!text(row).toLowerCase().includes(needle)) continue;
        this.at.set(rows, row);
        rows.reveal(row);
        break;
      }
    }
  }

  private get focused(): Map<number, string> { return this.app.focusIn(this.stage.index); }

  /** Lights the code of the followed op: the definition of the symbol that implements it. */
  private showFocus(): void {
    this.lit.clear();
    if (this.app.view !== "code" || this.lines.length === 0) return;
    const ops = [...this.focused.keys()];
    const symbols = new Map(this.app.recording.codes[this.chosen].symbols);
    const named = ops.flatMap((op) => this.stage.ancestors(op)).map((op) => symbols.get(op)).find((name) => name !== undefined);
    const first = named === undefined ? -1 : this.lightSymbol(named);
    this.layOut();
    if (ops.length > 0) this.ir.reveal(this.stage.opRow.get(ops[0])!);
    if (first >= 0) this.code.reveal(first);
  }

  /** Lights the lines from the definition of a symbol to its end, in LLVM IR, assembly or Python; its first line, or -1. */
  private lightSymbol(symbol: string): number {
    const name = symbol.replaceAll(/[^\w]/g, "\\$&");
    const begins = new RegExp(`^define\\b.*@"?${name}"?\\(|^"?${name}"?:|^\\s*def ${name}\\(|^module ${name}\\b`);
    const first = this.lines.findIndex((line) => begins.test(line));
    if (first < 0) return first;
    for (let at = first; at < this.lines.length; at++) {
      this.lit.add(at);
      if (/^\}|^\.Lfunc_end|^endmodule/.test(this.lines[at])) break;
    }
    return first;
  }
}
