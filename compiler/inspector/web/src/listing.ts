// One row of IR as an element: coloured, its values and symbols marked so that they can be lit, wrapped on the character grid.

import { el } from "./dom";
import type { Range } from "./diff";
import { breakAt, highlight, mark } from "./highlight";
import type { Stage } from "./recording";

export const ROW_HEIGHT = 18;
const HANGING = 4;

/** The width of a character of the listing's font, in pixels. */
export function charWidth(): number {
  const probe = el("span", { class: "code-probe" }, "0".repeat(100));
  document.body.append(probe);
  const width = probe.getBoundingClientRect().width / 100;
  probe.remove();
  return width;
}

/**
 * Where a text of this many columns goes on in the next line: what is wrapped hangs behind the indentation.
 * A line ends after a space if one is near, else after a comma or a bracket, else where it must.
 */
export function breaks(text: string, columns: number): number[] {
  const indent = text.length - text.trimStart().length;
  const found: number[] = [];
  let start = indent;
  for (let width = Math.max(columns - indent, 12); text.length - start > width; width = Math.max(columns - indent - HANGING, 12)) {
    const piece = text.slice(start, start + width + 1);
    const space = piece.lastIndexOf(" ") + 1;
    const bracket = Math.max(...[",", "(", ">", "{"].map((mark) => piece.slice(0, width).lastIndexOf(mark) + 1));
    const near = width * 0.6;
    start += space > near && space <= width ? space : bracket > near ? bracket : width;
    found.push(start);
  }
  return found;
}

export function lineHeight(text: string, columns: number): number {
  return ROW_HEIGHT * (1 + breaks(text, columns).length);
}

export interface Marks { changed?: Range[]; found?: Range[] }

/** Text in colours, wrapped at `columns`. */
export function codeLine(text: string, language: string | undefined, columns: number, marks: Marks): HTMLElement {
  const indent = text.length - text.trimStart().length;
  const code = el("code", { style: `padding-left:${indent + HANGING}ch;text-indent:-${HANGING}ch` });
  highlight(code, text.slice(indent), language);
  const shift = (ranges: Range[] = []): Range[] =>
    ranges.map(([start, end]): Range => [start - indent, end - indent]).filter(([, end]) => end > 0);
  mark(code, shift(marks.changed), "word");
  mark(code, shift(marks.found), "found");
  breakAt(code, breaks(text, columns).map((at) => at - indent));
  return code;
}

export function codeElement(stage: Stage, row: number, columns: number, marks: Marks): HTMLElement {
  const { text, values } = stage.row(row);
  const code = codeLine(text, "mlir", columns, marks);
  const variables = code.querySelectorAll<HTMLElement>(".hljs-variable");
  if (variables.length === values.length) {
    variables.forEach((element, i) => {
      element.dataset.v = String(values[i].value);
      if (values[i].defined) element.classList.add("defined");
    });
  }
  for (const symbol of code.querySelectorAll<HTMLElement>(".hljs-symbol")) {
    symbol.dataset.s = symbol.textContent!.replaceAll('"', "");
  }
  return code;
}

export function occurrences(text: string, needle: string): Range[] {
  if (!needle) return [];
  const lower = text.toLowerCase(), sought = needle.toLowerCase();
  const found: Range[] = [];
  for (let at = lower.indexOf(sought); at >= 0; at = lower.indexOf(sought, at + sought.length)) {
    found.push([at, at + sought.length]);
  }
  return found;
}

/** Lights every place of the value or symbol under the pointer: a rule of style, so that rows drawn later obey it too. */
export function lightOnHover(root: HTMLElement): void {
  const rule = el("style");
  document.head.append(rule);
  root.addEventListener("mouseover", (event) => {
    const target = (event.target as HTMLElement).closest<HTMLElement>("[data-v],[data-s]");
    const selector = target?.dataset.v !== undefined ? `[data-v="${target.dataset.v}"]`
      : target?.dataset.s !== undefined ? `[data-s="${CSS.escape(target.dataset.s)}"]` : null;
    root.dataset.lit = target?.dataset.v ?? "";
    rule.textContent = selector
      ? `${selector}{background:var(--lit);border-radius:3px;box-shadow:0 0 0 2px var(--lit)}` +
        `${selector}.defined{outline:1.5px solid var(--accent);outline-offset:1px}`
      : "";
  });
  root.addEventListener("mouseleave", () => { rule.textContent = ""; });
}
