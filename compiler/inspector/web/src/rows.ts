// A long list of rows of known heights, of which only what is in sight is in the document.

import { el } from "./dom";

export interface RowSource {
  count: number;
  height(index: number): number;
  render(index: number): HTMLElement;
}

const OVERSCAN = 300;

export class Rows {
  readonly element: HTMLElement;
  private readonly space: HTMLElement;
  private readonly shown: HTMLElement;
  private source: RowSource = { count: 0, height: () => 0, render: () => el("div") };
  private tops = new Float64Array(1);
  private first = 0;
  private last = 0;
  private waiting = 0;

  constructor(className: string, private readonly onScroll: () => void = () => {}) {
    this.shown = el("div", { class: "rows-shown" });
    this.space = el("div", { class: "rows-space" }, this.shown);
    this.element = el("div", { class: `rows ${className}`, tabindex: 0 }, this.space);
    this.element.addEventListener("scroll", () => {
      this.waiting ||= requestAnimationFrame(() => {
        this.waiting = 0;
        this.draw(false);
        this.onScroll();
      });
    });
  }

  set(source: RowSource): void {
    this.source = source;
    this.tops = new Float64Array(source.count + 1);
    for (let i = 0; i < source.count; i++) this.tops[i + 1] = this.tops[i] + source.height(i);
    this.space.style.height = `${this.tops[source.count]}px`;
    this.draw(true);
  }

  redraw(): void { this.draw(true); }
  get height(): number { return this.tops[this.source.count]; }
  top(index: number): number { return this.tops[index]; }

  /** The row at a distance from the top. */
  at(offset: number): number {
    let low = 0, high = this.source.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle + 1] <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  reveal(index: number): void {
    const { scrollTop, clientHeight } = this.element;
    const top = this.tops[index];
    if (top < scrollTop + 20 || this.tops[index + 1] > scrollTop + clientHeight - 20) {
      this.element.scrollTop = Math.max(0, top - clientHeight / 3);
    }
    this.draw(false);
  }

  private draw(anew: boolean): void {
    const { scrollTop, clientHeight } = this.element;
    const first = this.at(Math.max(0, scrollTop - OVERSCAN));
    const last = Math.min(this.source.count, this.at(scrollTop + clientHeight + OVERSCAN) + 1);
    if (!anew && first === this.first && last === this.last) return;
    [this.first, this.last] = [first, last];
    const rows: HTMLElement[] = [];
    for (let i = first; i < last; i++) rows.push(this.source.render(i));
    this.shown.style.transform = `translateY(${this.tops[first]}px)`;
    this.shown.replaceChildren(...rows);
  }
}
