// The dataflow graph of a function, drawn level by level: a closed group is a box, an open one a frame around its own layout.

import dagre from "@dagrejs/dagre";
import { select } from "d3-selection";
import { zoom, zoomIdentity, type ZoomBehavior } from "d3-zoom";
import type { App } from "./app";
import { count, el, svg } from "./dom";
import { buildGraph, size, type Graph, type GraphNode } from "./graph-model";

const BUDGET = 90;
const LEGIBLE = 0.62;
const OP_HEIGHT = 40;
const HEADER = 26;
const PADDING = 14;
const LETTER = 7.6;

interface Box { node: GraphNode; width: number; height: number; x: number; y: number; inside: Layout | null }
interface Layout { boxes: Box[]; wires: { points: { x: number; y: number }[]; from: GraphNode; to: GraphNode }[]; width: number; height: number }

export class GraphView {
  readonly element = el("section", { class: "graph" });
  private readonly canvas = svg("svg", { class: "graph-canvas", tabindex: 0 });
  private readonly world = svg("g");
  private readonly bar = el("div", { class: "graph-bar" });
  private readonly behaviour: ZoomBehavior<SVGSVGElement, unknown>;
  private withSources = false;
  private func = -1;
  private stage = -1;
  private graph: Graph | null = null;
  private layout: Layout | null = null;
  private readonly open = new Set<string>();

  constructor(private readonly app: App) {
    this.canvas.append(svg("defs", {}, svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, svg("path", { d: "M0 0 8 4 0 8z", class: "arrow" }))), this.world);
    const legend = ["accumulate", "norm", "elementwise", "scan", "weight", "shape"];
    this.element.append(this.bar, this.canvas, el("div", { class: "legend" }, ...legend.map((kind) => el("span", { class: `key ${kind}` }, kind))));
    this.behaviour = zoom<SVGSVGElement, unknown>().scaleExtent([0.02, 4]).on("zoom", (event) => {
      this.world.setAttribute("transform", event.transform.toString());
      this.canvas.classList.toggle("far", event.transform.k < 0.35);
    });
    select(this.canvas as SVGSVGElement).call(this.behaviour).on("dblclick.zoom", null);
    app.on("pass", () => this.load());
    app.on("view", () => this.load());
    app.on("focus", () => this.drawFocus());
  }

  private load(): void {
    if (this.app.view !== "graph") return;
    const stage = this.app.recording.stage(this.app.right);
    if (stage.index === this.stage && this.graph) return;
    this.stage = stage.index;
    if (!stage.functions.includes(this.func)) {
      const rows = (op: number) => stage.end[stage.opRow.get(op)!] - stage.opRow.get(op)!;
      const named = stage.functions.find((op) => stage.text(stage.opRow.get(op)!).includes("@forward"));
      this.func = named ?? [...stage.functions].sort((a, b) => rows(b) - rows(a))[0] ?? -1;
    }
    this.build();
  }

  private build(): void {
    const { recording } = this.app;
    const stage = recording.stage(this.stage);
    this.drawBar();
    this.world.replaceChildren();
    this.graph = this.func < 0 ? null : buildGraph(recording, stage, this.func, this.withSources);
    if (!this.graph) return;
    this.openUpTo(BUDGET);
    this.arrange();
    this.showTop();
  }

  /** Opens groups from the outside in, while all that is open fits in the budget; fused ops stay closed. */
  private openUpTo(budget: number): void {
    this.open.clear();
    const queue = [this.graph!.root];
    let shown = 0;
    while (queue.length > 0) {
      const next = queue.shift()!;
      if (shown + next.children.length > budget && next !== this.graph!.root) continue;
      this.open.add(next.id);
      shown += next.children.length;
      queue.push(...next.children.filter((child) => child.kind === "group"));
    }
  }

  private arrange(): void {
    this.layout = this.lay(this.graph!.root, this.wiresByLevel());
    this.draw();
  }

  /** Every edge at the level where the ways to its ends part, between what is visible there. */
  private wiresByLevel(): Map<GraphNode, Map<string, [GraphNode, GraphNode]>> {
    const levels = new Map<GraphNode, Map<string, [GraphNode, GraphNode]>>();
    const chain = (at: GraphNode) => {
      const up: GraphNode[] = [];
      for (let next: GraphNode | null = at; next; next = next.parent) up.push(next);
      return up.reverse();
    };
    for (const { from, to } of this.graph!.edges) {
      const [a, b] = [chain(from), chain(to)];
      let depth = 0;
      while (a[depth] === b[depth] && depth < a.length - 1 && depth < b.length - 1) depth += 1;
      const [start, end, level] = [a[depth], b[depth], a[depth - 1]];
      if (!level || start === end) continue;
      if (!levels.has(level)) levels.set(level, new Map());
      levels.get(level)!.set(`${start.id}>${end.id}`, [start, end]);
    }
    return levels;
  }

  private lay(at: GraphNode, wires: Map<GraphNode, Map<string, [GraphNode, GraphNode]>>): Layout {
    const graph = new dagre.graphlib.Graph();
    graph.setGraph({ rankdir: "TB", nodesep: 18, ranksep: 26, marginx: PADDING, marginy: PADDING });
    graph.setDefaultEdgeLabel(() => ({}));
    const boxes = new Map<string, Box>();
    for (const child of at.children) {
      const inside = child.children.length > 0 && this.open.has(child.id) ? this.lay(child, wires) : null;
      const label = Math.max(child.label.length + (child.children.length > 0 ? 6 : 0), child.detail.length * 0.86);
      const own = Math.max(70, 22 + LETTER * Math.min(label, 36));
      const box = { node: child, width: Math.max(own, inside?.width ?? 0), height: inside ? inside.height + HEADER : OP_HEIGHT, x: 0, y: 0, inside };
      boxes.set(child.id, box);
      graph.setNode(child.id, { width: box.width, height: box.height });
    }
    const between = [...(wires.get(at)?.values() ?? [])].filter(([from, to]) => boxes.has(from.id) && boxes.has(to.id));
    for (const [from, to] of between) graph.setEdge(from.id, to.id);
    dagre.layout(graph);
    for (const [id, box] of boxes) {
      const placed = graph.node(id);
      [box.x, box.y] = [placed.x - box.width / 2, placed.y - box.height / 2];
    }
    const { width = 0, height = 0 } = graph.graph();
    return {
      boxes: [...boxes.values()], width, height,
      wires: between.map(([from, to]) => ({ from, to, points: graph.edge(from.id, to.id).points })),
    };
  }

  private draw(): void {
    this.world.replaceChildren(this.drawLayout(this.layout!));
    this.drawFocus();
  }

  private drawLayout(layout: Layout): SVGGElement {
    const wires = layout.wires.map(({ points }) => svg("path", { class: "wire", d: curve(points), "marker-end": "url(#arrow)" }));
    return svg("g", {}, ...wires, ...layout.boxes.map((box) => this.drawBox(box)));
  }

  private drawBox(box: Box): SVGGElement {
    const { node, inside } = box;
    const nested = node.children.length > 0;
    const holds = nested ? (node.kind === "group" ? `${count(size(node))} ops` : `${count(node.children.length)} fused`) : "";
    const below = nested && node.kind === "group" ? holds : node.detail;
    const group = svg("g", {
      class: `box ${node.kind} ${inside ? "open" : ""} ${nested && node.kind !== "group" ? "fused" : ""}`, "data-node": node.id,
      "data-op": node.op >= 0 ? node.op : null, transform: `translate(${box.x} ${box.y})`,
      onclick: (event: MouseEvent) => {
        event.stopPropagation();
        if (node.kind === "group") this.toggle(node);
        else if (node.id !== "inputs") this.app.follow({ stage: this.stage, op: node.op });
      },
      ondblclick: (event: MouseEvent) => {
        event.stopPropagation();
        if (nested && node.kind !== "group") this.toggle(node);
      },
    },
      svg("title", {}, `${node.kind === "group" ? node.detail : node.label}${holds ? `, ${holds}` : ""}`),
      svg("rect", { width: box.width, height: box.height, rx: 6 }),
      nested && svg("text", { class: "opener", x: 10, y: 17, onclick: (event: MouseEvent) => { event.stopPropagation(); this.toggle(node); } }, inside ? "▾" : "▸"),
      svg("text", { x: nested ? 24 : 10, y: 17, class: "label" }, cut(node.label, 36)),
      !inside && below && svg("text", { x: 10, y: 32, class: "detail" }, cut(nested && node.kind !== "group" ? `${holds} · ${below}` : below, Math.floor((box.width - 16) / 5.8))));
    if (inside) {
      const content = this.drawLayout(inside);
      content.setAttribute("transform", `translate(${(box.width - inside.width) / 2} ${HEADER - 6})`);
      group.append(content);
    }
    return group;
  }

  private toggle(node: GraphNode): void {
    if (!this.open.delete(node.id)) this.open.add(node.id);
    this.arrange();
  }

  private drawFocus(): void {
    if (!this.graph || this.app.view !== "graph") return;
    const focused = this.app.focusIn(this.stage);
    for (const box of this.world.querySelectorAll<SVGGElement>(".box")) {
      const op = box.dataset.op;
      box.classList.toggle("focused", op !== undefined && focused.has(Number(op)) && box.dataset.node !== "inputs");
    }
  }

  fit(): void {
    if (!this.layout) return;
    const { clientWidth, clientHeight } = this.canvas;
    const { width, height } = this.layout;
    const k = Math.min(1.1, clientWidth / width, clientHeight / height);
    this.place((clientWidth - width * k) / 2, (clientHeight - height * k) / 2, k);
  }

  /** A function is read from its top, at a size that can be read. */
  private showTop(): void {
    if (!this.layout) return;
    const { clientWidth, clientHeight } = this.canvas;
    const { width, height, boxes } = this.layout;
    const k = Math.min(1.1, Math.max(LEGIBLE, Math.min(clientWidth / width, clientHeight / height)));
    const top = boxes.find(({ node }) => node.id === "inputs");
    const centre = top && width * k > clientWidth ? top.x + top.width / 2 : width / 2;
    this.place(clientWidth / 2 - centre * k, Math.max(8, (clientHeight - height * k) / 2), k);
  }

  private place(x: number, y: number, k: number): void {
    const transform = zoomIdentity.translate(x, y).scale(k);
    this.behaviour.transform(select(this.canvas as SVGSVGElement), transform);
  }

  zoomBy(factor: number): void {
    this.behaviour.scaleBy(select(this.canvas as SVGSVGElement), factor);
  }

  private drawBar(): void {
    const { recording } = this.app;
    const stage = recording.stage(this.stage);
    const name = (op: number) => stage.text(stage.opRow.get(op)!).match(/@("[^"]*"|[\w.$-]+)/)?.[0] ?? "function";
    const choice = el("select", { "aria-label": "Function", onchange: () => { this.func = Number(choice.value); this.build(); } },
      ...stage.functions.map((op) => el("option", { value: op, selected: op === this.func }, name(op))));
    const button = (label: string, title: string, action: () => void) => el("button", { class: "toggle", title, onclick: action }, label);
    this.bar.replaceChildren(
      el("span", { class: "quiet" }, `after ${recording.stageName(this.stage)}`), choice,
      button("−", "Key: -", () => this.zoomBy(1 / 1.3)), button("+", "Key: +", () => this.zoomBy(1.3)), button("fit", "Key: 0", () => this.fit()),
      el("button", { class: "toggle", "aria-pressed": String(this.withSources), onclick: () => { this.withSources = !this.withSources; this.build(); } }, "weights and constants"),
      button("open all", "Opens groups while they fit", () => { this.openUpTo(600); this.arrange(); this.fit(); }));
  }
}

function cut(text: string, letters: number): string {
  return text.length > letters ? `${text.slice(0, letters - 1)}…` : text;
}

function curve(points: { x: number; y: number }[]): string {
  const [first, ...rest] = points;
  let path = `M${first.x} ${first.y}`;
  for (let i = 0; i < rest.length; i++) {
    const [a, b] = [rest[i], rest[i + 1]];
    if (!b) path += ` L${a.x} ${a.y}`;
    else path += ` Q${a.x} ${a.y} ${(a.x + b.x) / 2} ${(a.y + b.y) / 2}`;
  }
  return path;
}
