// The dataflow of a function as a tree: groups by module path, ops in them, and what a fused op does inside it.

import type { Recording, Stage } from "./recording";

export interface GraphNode {
  id: string;
  label: string;
  detail: string;
  kind: string;
  op: number;
  parent: GraphNode | null;
  children: GraphNode[];
}

export interface GraphEdge { from: GraphNode; to: GraphNode; value: number; type: string }
export interface Graph { root: GraphNode; edges: GraphEdge[]; nodes: Map<number, GraphNode> }

/** Ops that only bring numbers in: most of the nodes, and little of the flow. */
const SOURCES = new Set(["ternary.load", "arith.constant", "tensor.dim", "tensor.empty", "tensor.splat", "linalg.fill"]);

const KINDS: [RegExp, string][] = [
  [/^ternary\.(accumulate|project|dequantize)$|matmul/, "accumulate"],
  [/^ternary\.(quantize|norm_quantize|rms_norm|absmean|ternarize)$/, "norm"],
  [/^ternary\.scan$/, "scan"],
  [/^ternary\.elementwise$|^arith\.|^math\./, "elementwise"],
  [/^ternary\.(load|embedding)$|constant/, "weight"],
  [/^func\./, "call"],
];

export function kindOf(name: string): string {
  return KINDS.find(([pattern]) => pattern.test(name))?.[1] ?? "shape";
}

function node(id: string, label: string, kind: string, op: number, parent: GraphNode | null, detail = ""): GraphNode {
  const made = { id, label, detail, kind, op, parent, children: [] as GraphNode[] };
  parent?.children.push(made);
  return made;
}

/** The type that is printed last in a row of an op that stands on one line: that of its result. */
function resultType(text: string): string {
  const types = [...text.matchAll(/(?:tensor|memref|vector)<[^<>]*(?:<[^<>]*>[^<>]*)*>/g)];
  const type = types.at(-1)?.[0] ?? "";
  return type.length > 34 ? `${type.slice(0, 33)}…` : type;
}

export function buildGraph(recording: Recording, stage: Stage, func: number, withSources: boolean): Graph {
  const root = node("root", "", "root", func, null);
  const nodes = new Map<number, GraphNode>();
  const groups = new Map<string, GraphNode>();
  const group = (path: string[]): GraphNode => {
    if (path.length === 0) return root;
    const key = path.join(".");
    if (!groups.has(key)) {
      const parent = group(path.slice(0, -1));
      groups.set(key, node(`g:${key}`, path[path.length - 1], "group", -1, parent, key));
    }
    return groups.get(key)!;
  };
  // Rows are in program order, so an op's parent is known before it.
  let path: string[] = [];
  for (const [op, row] of stage.opRow) {
    const parent = stage.parent.get(op);
    const inFunction = parent === func;
    const owner = parent === undefined ? undefined : nodes.get(parent);
    if (!inFunction && !owner) continue;
    const name = recording.opName(op);
    const text = stage.text(row);
    if (inFunction) path = pathOf(recording, op, text) ?? path;
    if ((!withSources && SOURCES.has(name)) || name === "ternary.yield") continue;
    const within = inFunction ? (name === "func.return" ? root : group(path)) : owner!;
    const detail = stage.end[row] > row ? resultType(stage.text(stage.end[row])) : resultType(text);
    nodes.set(op, node(`o:${op}`, labelOf(name, text), kindOf(name), op, within, inFunction ? detail : ""));
  }
  const input = node("inputs", "inputs", "call", func, null, "");
  const edges = readEdges(stage, func, nodes, input, root);
  compress(root);
  return { root, edges, nodes };
}

function labelOf(name: string, text: string): string {
  const symbol = /^func\.call$|^ternary\.load$/.test(name) ? text.match(/@("[^"]*"|[\w.$-]+)/)?.[0].replaceAll('"', "") : "";
  return `${name.replace(/^(ternary|arith|math|linalg|tensor|func)\./, "")}${symbol ? ` ${symbol}` : ""}`;
}

/** The module that an op belongs to: from its location, or from the name of the weight that it loads. */
function pathOf(recording: Recording, op: number, text: string): string[] | null {
  const path = recording.places(op).find((place) => place.path)?.path;
  if (path) return path.split(".");
  const weight = recording.opName(op) === "ternary.load" ? text.match(/@"?([\w.$-]+)/)?.[1] : undefined;
  return weight?.includes(".") ? weight.split(".").slice(0, -1) : null;
}

function readEdges(stage: Stage, func: number, nodes: Map<number, GraphNode>, input: GraphNode, root: GraphNode): GraphEdge[] {
  const edges: GraphEdge[] = [];
  const seen = new Set<string>();
  for (const [value, users] of stage.usedBy) {
    const definition = stage.definedBy.get(value);
    if (!definition) continue;
    const from = definition.argument ? (definition.op === func ? input : undefined) : nodes.get(definition.op);
    if (!from) continue;
    for (const user of users) {
      const to = nodes.get(user);
      const key = `${from.id}>${to?.id}`;
      if (!to || to === from || seen.has(key)) continue;
      seen.add(key);
      if (from === input && !input.parent) {
        input.parent = root;
        root.children.unshift(input);
      }
      edges.push({ from, to, value, type: "" });
    }
  }
  return edges;
}

/** A group that holds one group and nothing else is written as one: "model" of "layers" is "model.layers". */
function compress(at: GraphNode): void {
  at.children = at.children.map((child) => {
    let only = child;
    while (only.kind === "group" && only.children.length === 1) {
      const inner = only.children[0];
      if (inner.kind === "group") inner.label = `${only.label}.${inner.label}`;
      inner.parent = at;
      only = inner;
    }
    return only;
  });
  at.children.forEach(compress);
}

export function size(at: GraphNode): number {
  return at.children.reduce((sum, child) => sum + size(child), at.kind === "group" ? 0 : 1);
}
