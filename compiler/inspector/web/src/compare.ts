// Two stages side by side, or one alone where there is nothing to compare.

import type { App } from "./app";
import { align, wordDiff, type Pair, type Range } from "./diff";
import { count, el } from "./dom";
import { charWidth, codeElement, lightOnHover, lineHeight, occurrences, ROW_HEIGHT } from "./listing";
import type { Stage } from "./recording";
import { Rows } from "./rows";

/** A pair of rows, or a number of pairs that are left out. */
type Item = { pair: number } | { from: number; to: number };

const CONTEXT = 3;
const GUTTER = 58;
const MANY_ROWS = 200;

export class CompareView {
  readonly element: HTMLElement;
  onlyChanges = true;
  private readonly rows = new Rows("compare-rows", () => this.drawRuler());
  private readonly heads = el("div", { class: "compare-heads" });
  private readonly ruler = el("canvas", { class: "ruler", title: "Changes, and what was found" });
  private readonly folded = new Set<number>();
  private readonly opened = new Set<number>();
  private pairs: Pair[] = [];
  private items: Item[] = [];
  private hits: number[] = [];
  private hit = -1;
  private left!: Stage;
  private right!: Stage;
  private focused: [Map<number, string>, Map<number, string>] = [new Map(), new Map()];
  private columns = 80;

  constructor(private readonly app: App) {
    this.element = el("section", { class: "compare" }, this.heads,
      el("div", { class: "compare-body" }, this.rows.element, this.ruler));
    lightOnHover(this.rows.element);
    this.rows.element.addEventListener("click", (event) => this.clicked(event));
    this.ruler.addEventListener("click", (event) => {
      const share = event.offsetY / this.ruler.clientHeight;
      this.rows.element.scrollTop = share * this.rows.height - this.rows.element.clientHeight / 2;
    });
    new ResizeObserver(() => this.layOut()).observe(this.rows.element);
    app.on("pass", () => this.load());
    app.on("focus", () => this.showFocus());
    app.on("search", () => this.search());
    app.on("theme", () => this.drawRuler());
  }

  get single(): boolean { return this.app.left === this.app.right; }
  get hitCount(): number { return this.hits.length; }
  get hitNumber(): number { return this.hit + 1; }

  load(): void {
    const { recording } = this.app;
    this.left = recording.stage(this.app.left);
    this.right = recording.stage(this.app.right);
    this.opened.clear();
    this.pairs = this.single
      ? Array.from({ length: this.right.rows }, (_, row) => ({ left: row, right: row, change: "same" }))
      : align(recording, this.left, this.right);
    this.focused = [this.app.focusIn(this.left.index), this.app.focusIn(this.right.index)];
    this.findHits();
    this.drawHeads();
    this.element.classList.toggle("single", this.single);
    this.layOut();
    const body = this.right.functions.length > 0 ? this.right.opRow.get(this.right.functions[0])! : 0;
    const changed = (from: number) => this.items.findIndex((item) =>
      "pair" in item && this.pairs[item.pair].change !== "same" && this.pairs[item.pair].right >= from);
    const first = changed(body) >= 0 ? changed(body) : changed(-1);
    this.rows.element.scrollTop = 0;
    if (this.app.focus) this.revealFocus();
    else if (first > 0) this.rows.reveal(first);
  }

  toggleOnlyChanges(): void {
    this.onlyChanges = !this.onlyChanges;
    this.opened.clear();
    this.drawHeads();
    this.layOut();
  }

  /** Folds every function, or opens all of them. */
  toggleFold(): void {
    const functions = [...this.left.functions, ...this.right.functions];
    const fold = !functions.some((op) => this.folded.has(op));
    this.folded.clear();
    if (fold) for (const op of functions) this.folded.add(op);
    this.layOut();
  }

  /** The next place that changed (or, while searching, that was found). */
  next(direction: 1 | -1): void {
    if (this.app.search) return this.nextHit(direction);
    const { scrollTop, clientHeight } = this.rows.element;
    const here = this.rows.at(scrollTop + clientHeight / 3 + 1);
    const changed = (i: number) => {
      const item = this.items[i];
      return item !== undefined && "pair" in item && this.pairs[item.pair].change !== "same";
    };
    for (let i = here + direction; i >= 0 && i < this.items.length; i += direction) {
      if (changed(i) && !changed(i - 1)) {
        this.rows.element.scrollTop = Math.max(0, this.rows.top(i) - clientHeight / 3);
        return;
      }
    }
  }

  nextHit(direction: 1 | -1): void {
    if (this.hits.length === 0) return;
    this.hit = (this.hit + direction + this.hits.length) % this.hits.length;
    this.revealPair(this.hits[this.hit]);
    this.rows.redraw();
    this.app.emit("view");
  }

  private search(): void {
    this.findHits();
    this.layOut();
    if (this.hits.length > 0) this.nextHit(1);
  }

  private findHits(): void {
    const needle = this.app.search.toLowerCase();
    this.hit = -1;
    this.hits = [];
    if (!needle) return;
    this.pairs.forEach(({ left, right }, i) => {
      const found = (right >= 0 && this.right.text(right).toLowerCase().includes(needle)) ||
        (left >= 0 && this.left.text(left).toLowerCase().includes(needle));
      if (found) this.hits.push(i);
    });
  }

  private showFocus(): void {
    this.focused = [this.app.focusIn(this.left.index), this.app.focusIn(this.right.index)];
    this.rows.redraw();
    this.revealFocus();
    this.drawRuler();
  }

  private revealFocus(): void {
    const [left, right] = this.focused;
    const at = this.pairs.findIndex((pair) =>
      (pair.right >= 0 && right.has(this.right.owner[pair.right])) || (pair.left >= 0 && left.has(this.left.owner[pair.left])));
    if (at >= 0) this.revealPair(at);
  }

  private revealPair(pair: number): void {
    let at = this.itemOf(pair);
    if (at < 0) {
      const { left, right } = this.pairs[pair];
      const around = [
        ...(left >= 0 ? this.left.ancestors(this.left.owner[left]) : []),
        ...(right >= 0 ? this.right.ancestors(this.right.owner[right]) : []),
      ];
      for (const op of around) this.folded.delete(op);
      for (let i = pair - CONTEXT; i <= pair + CONTEXT; i++) this.opened.add(i);
      this.layOut();
      at = this.itemOf(pair);
    }
    if (at >= 0) this.rows.reveal(at);
  }

  private itemOf(pair: number): number {
    return this.items.findIndex((item) => "pair" in item && item.pair === pair);
  }

  private hidden(stage: Stage): Uint8Array {
    const hidden = new Uint8Array(stage.rows);
    for (const op of this.folded) {
      const row = stage.opRow.get(op);
      if (row !== undefined) hidden.fill(1, row + 1, stage.end[row] + 1);
    }
    return hidden;
  }

  /** Chooses what is shown, and gives every row its height. */
  private layOut(): void {
    if (!this.left || this.rows.element.clientWidth === 0) return;
    const [leftHidden, rightHidden] = [this.hidden(this.left), this.hidden(this.right)];
    const shown = this.inContext();
    this.items = [];
    this.pairs.forEach(({ left, right }, i) => {
      if ((left < 0 || leftHidden[left]) && (right < 0 || rightHidden[right])) return;
      if (shown[i]) {
        this.items.push({ pair: i });
        return;
      }
      const last = this.items.at(-1);
      if (last && "from" in last) last.to = i + 1;
      else this.items.push({ from: i, to: i + 1 });
    });
    const width = this.rows.element.clientWidth / (this.single ? 1 : 2) - GUTTER - 12;
    this.columns = Math.max(20, Math.floor(width / charWidth()));
    this.rows.set({
      count: this.items.length,
      height: (i) => this.itemHeight(this.items[i]),
      render: (i) => this.renderItem(this.items[i]),
    });
    this.drawRuler();
  }

  private inContext(): Uint8Array {
    const shown = new Uint8Array(this.pairs.length);
    if (this.single || !this.onlyChanges || this.pairs.length < MANY_ROWS) return shown.fill(1);
    this.pairs.forEach((pair, i) => {
      if (pair.change === "same") return;
      shown.fill(1, Math.max(0, i - CONTEXT), i + CONTEXT + 1);
    });
    for (const i of [...this.opened, ...this.hits]) if (i >= 0 && i < shown.length) shown[i] = 1;
    // A function's first row says where the changes are.
    const headers = new Set(this.right.functions.map((op) => this.right.opRow.get(op)!));
    this.pairs.forEach((pair, i) => { if (headers.has(pair.right)) shown[i] = 1; });
    return shown;
  }

  private itemHeight(item: Item): number {
    if (!("pair" in item)) return ROW_HEIGHT + 6;
    const { left, right } = this.pairs[item.pair];
    const height = (stage: Stage, row: number) => (row < 0 ? ROW_HEIGHT : lineHeight(stage.text(row), this.columns));
    return Math.max(height(this.right, right), this.single ? 0 : height(this.left, left));
  }

  private renderItem(item: Item): HTMLElement {
    if (!("pair" in item)) {
      return el("button", { class: "left-out", "data-from": item.from, "data-to": item.to },
        `${count(item.to - item.from)} unchanged lines`);
    }
    const pair = this.pairs[item.pair];
    const found = item.pair === this.hits[this.hit];
    const row = el("div", { class: `pair ${found ? "current-hit" : ""}`, style: `height:${this.itemHeight(item)}px` });
    if (this.single) {
      row.append(this.cell("right", pair, []));
      return row;
    }
    const words = pair.change === "changed" ? wordDiff(this.left, pair.left, this.right, pair.right) : { left: [], right: [] };
    row.append(this.cell("left", pair, words.left), this.cell("right", pair, words.right));
    return row;
  }

  private cell(side: "left" | "right", pair: Pair, words: Range[]): HTMLElement {
    const stage = side === "left" ? this.left : this.right;
    const row = pair[side];
    if (row < 0) return el("div", { class: "cell nothing" });
    const change = pair.change === "one-sided" ? (side === "left" ? "removed" : "added") : pair.change;
    const op = stage.owner[row];
    const folds = stage.opRow.get(op) === row && stage.end[row] > row;
    const closed = this.folded.has(op);
    const kind = this.focused[side === "left" ? 0 : 1].get(op);
    const code = codeElement(stage, row, this.columns, { changed: words, found: occurrences(stage.text(row), this.app.search) });
    if (folds && closed) code.append(el("span", { class: "folded" }, `⋯ ${count(stage.end[row] - row)} lines`));
    return el("div", {
      class: `cell ${side} ${change} ${kind ? `focused ${kind}` : ""}`, "data-side": side, "data-row": row, "data-op": op,
    },
      el("span", { class: "number" }, String(row + 1)),
      el("button", { class: `fold ${folds ? "" : "none"}`, tabindex: -1, "aria-label": folds ? "fold" : null }, folds ? (closed ? "▸" : "▾") : ""),
      code);
  }

  private clicked(event: MouseEvent): void {
    const target = event.target as HTMLElement;
    const gap = target.closest<HTMLElement>(".left-out");
    if (gap) {
      for (let i = Number(gap.dataset.from); i < Number(gap.dataset.to); i++) this.opened.add(i);
      return this.layOut();
    }
    const cell = target.closest<HTMLElement>(".cell");
    if (!cell?.dataset.op || window.getSelection()?.toString()) return;
    const op = Number(cell.dataset.op);
    if (target.closest(".fold:not(.none)")) {
      if (!this.folded.delete(op)) this.folded.add(op);
      return this.layOut();
    }
    const stage = cell.dataset.side === "left" ? this.left : this.right;
    this.app.follow({ stage: stage.index, op });
  }

  private drawHeads(): void {
    const { recording, run } = this.app;
    const name = (stage: number) => (stage === 0 ? "input" : `after ${recording.stageName(stage)}`);
    const head = (stage: Stage) => el("div", { class: "compare-head" },
      el("strong", {}, name(stage.index)), el("span", { class: "quiet" }, `${count(stage.rows)} lines`));
    const note = run?.error ? el("span", { class: "badge error" }, `failed: ${run.error}`)
      : run && run.before === run.after ? el("span", { class: "badge" }, `${run.name} changed nothing`) : null;
    this.heads.replaceChildren(...(this.single ? [] : [head(this.left)]), head(this.right));
    const last = this.heads.lastElementChild!;
    if (note) last.append(note);
    if (!this.single && this.pairs.length >= MANY_ROWS) {
      last.append(el("button", { class: "toggle", "aria-pressed": String(this.onlyChanges), title: "Key: u", onclick: () => this.toggleOnlyChanges() }, "only changes"));
    }
  }

  private drawRuler(): void {
    const { clientWidth: width, clientHeight: height } = this.ruler;
    const scale = window.devicePixelRatio;
    this.ruler.width = width * scale;
    this.ruler.height = height * scale;
    const context = this.ruler.getContext("2d")!;
    context.scale(scale, scale);
    // A canvas does not know the page's variables; the computed colour of an element is what one stands for.
    const colour = (name: string) => {
      this.ruler.style.color = `var(${name})`;
      return getComputedStyle(this.ruler).color;
    };
    const [added, removed, changed, hit, focus] = ["--ruler-added", "--ruler-removed", "--ruler-changed", "--ruler-found", "--accent"].map(colour);
    const total = Math.max(this.rows.height, height);
    const hits = new Set(this.hits);
    const [leftFocus, rightFocus] = this.focused;
    this.items.forEach((item, i) => {
      if (!("pair" in item)) return;
      const pair = this.pairs[item.pair];
      const y = (this.rows.top(i) / total) * height;
      const tall = Math.max(1.5, ((this.rows.top(i + 1) - this.rows.top(i)) / total) * height);
      const paint = (fill: string, x: number, wide: number) => { context.fillStyle = fill; context.fillRect(x, y, wide, tall); };
      if (pair.change === "changed") paint(changed, 0, width);
      if (pair.change === "one-sided" && pair.left >= 0) paint(removed, 0, width / 2);
      if (pair.change === "one-sided" && pair.right >= 0) paint(added, width / 2, width / 2);
      if (hits.has(item.pair)) paint(hit, 0, width);
      if ((pair.left >= 0 && leftFocus.has(this.left.owner[pair.left])) || (pair.right >= 0 && rightFocus.has(this.right.owner[pair.right]))) paint(focus, 0, width);
    });
    context.strokeStyle = colour("--ruler-view");
    context.strokeRect(0.5, (this.rows.element.scrollTop / total) * height + 0.5, width - 1, (this.rows.element.clientHeight / total) * height - 1);
  }
}
