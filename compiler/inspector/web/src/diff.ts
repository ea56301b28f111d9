// Side by side: which rows of two stages belong together, and which words of two rows differ.
//
// Ops know who they are, so rows are not matched by their text. A row of an op that both stages have is the same row; a
// row of an op that went belongs to a row of the op that took its place. A value that was only renumbered is no change.

import { diffArrays } from "diff";
import type { Recording, Stage } from "./recording";

export type Change = "same" | "changed" | "one-sided";
/** Row numbers in the two stages; -1 where the other side has nothing to show. */
export interface Pair { left: number; right: number; change: Change }

/** The longest chain of pairs in which both numbers ascend. Pairs are sorted by left, then by right descending. */
function longestAscent(pairs: [number, number][]): [number, number][] {
  const tails: number[] = [];
  const previous = new Int32Array(pairs.length).fill(-1);
  pairs.forEach(([, right], i) => {
    let low = 0, high = tails.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (pairs[tails[middle]][1] < right) low = middle + 1;
      else high = middle;
    }
    previous[i] = low > 0 ? tails[low - 1] : -1;
    tails[low] = i;
  });
  const chain: [number, number][] = [];
  for (let at = tails.length > 0 ? tails[tails.length - 1] : -1; at >= 0; at = previous[at]) chain.push(pairs[at]);
  return chain.reverse();
}

/** A key for every row: its op, and how many rows of that op's own came before it. */
function rowKeys(stage: Stage): string[] {
  const seen = new Map<number, number>();
  return Array.from(stage.owner, (op) => {
    const nth = seen.get(op) ?? 0;
    seen.set(op, nth + 1);
    return `${op}.${nth}`;
  });
}

export function align(recording: Recording, left: Stage, right: Stage): Pair[] {
  const rightRows = new Map(rowKeys(right).map((key, row) => [key, row]));
  const shared: [number, number][] = [];
  rowKeys(left).forEach((key, row) => {
    const other = rightRows.get(key);
    if (other !== undefined) shared.push([row, other]);
  });
  const pairs: Pair[] = [];
  let l = 0, r = 0;
  for (const [toLeft, toRight] of [...longestAscent(shared), [left.rows, right.rows] as [number, number]]) {
    pairs.push(...alignGap(recording, left, right, l, toLeft, r, toRight));
    if (toLeft < left.rows) pairs.push(pair(left, right, toLeft, toRight));
    [l, r] = [toLeft + 1, toRight + 1];
  }
  return pairs;
}

function pair(left: Stage, right: Stage, l: number, r: number): Pair {
  const same = left.lines[l] === right.lines[r] || left.text(l) === right.text(r);
  return { left: l, right: r, change: same ? "same" : "changed" };
}

/** Rows between two anchors: by the links of their ops, and what is left over side by side. */
function alignGap(
  recording: Recording, left: Stage, right: Stage, l: number, toLeft: number, r: number, toRight: number,
): Pair[] {
  const linked: [number, number][] = [];
  if (l < toLeft && r < toRight) {
    for (let row = l; row < toLeft; row++) {
      if (left.opRow.get(left.owner[row]) !== row) continue;
      const rows = recording.follow(left.owner[row], left.index, right.index)
        .map(({ op }) => right.opRow.get(op)!)
        .filter((at) => at >= r && at < toRight)
        .sort((a, b) => b - a);
      for (const at of rows) linked.push([row, at]);
    }
  }
  const pairs: Pair[] = [];
  for (const [pairLeft, pairRight] of [...longestAscent(linked), [toLeft, toRight] as [number, number]]) {
    for (; l < pairLeft || r < pairRight; l++, r++) {
      pairs.push({ left: l < pairLeft ? l : -1, right: r < pairRight ? r : -1, change: "one-sided" });
    }
    [l, r] = [pairLeft, pairRight];
    if (pairLeft < toLeft) {
      pairs.push(pair(left, right, pairLeft, pairRight));
      [l, r] = [l + 1, r + 1];
    }
  }
  return pairs;
}

export type Range = [start: number, end: number];
interface Word { text: string; start: number; value: number }

const WORDS = /%[\w$.-]+|@"[^"]*"|@[\w$.-]+|[A-Za-z_][\w.]*|\d+(?:\.\d+)?(?:e[+-]?\d+)?|\s+|[^]/g;

function words(stage: Stage, row: number): Word[] {
  const { text, values } = stage.row(row);
  const at = new Map(values.map(({ start, value }) => [start, value]));
  return [...text.matchAll(WORDS)].map((match) => ({ text: match[0], start: match.index, value: at.get(match.index) ?? -1 }));
}

/** The ranges of characters in which two rows differ. */
export function wordDiff(left: Stage, l: number, right: Stage, r: number): { left: Range[]; right: Range[] } {
  const sides = [words(left, l), words(right, r)];
  const parts = diffArrays(sides[0], sides[1], {
    comparator: (a: Word, b: Word) => (a.value >= 0 && a.value === b.value) || a.text === b.text,
    maxEditLength: 400,
  });
  const ranges: { left: Range[]; right: Range[] } = { left: [], right: [] };
  const kept = (parts ?? []).filter((part) => !part.added && !part.removed).reduce((sum, part) => sum + part.value.length, 0);
  // Two rows that share next to nothing are easier to read without marks on all their words.
  if (kept < 0.3 * Math.min(sides[0].length, sides[1].length)) return ranges;
  for (const part of parts ?? []) {
    if (!part.added && !part.removed) continue;
    const [first, last] = [part.value[0], part.value[part.value.length - 1]];
    if (first) ranges[part.added ? "right" : "left"].push([first.start, last.start + last.text.length]);
  }
  return ranges;
}
