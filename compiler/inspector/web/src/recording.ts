// The recorded pipeline as ../payload.py writes it, and the questions that the views ask of it.

export interface Cost {
  additions: number;
  multiplications: number;
  other: number;
  activations: number;
  state: number;
  weights: [string, number][];
}

export interface PassRun {
  spec: string;
  name: string;
  seconds: number;
  before: number;
  after: number;
  links: number[];
  added: number;
  removed: number;
  modified: number;
  error: string | null;
}

export interface Place { path: string; file: string; line: number }
/** Emitted code, and which symbol in it implements an op. */
export interface Code { kind: string; text: string; symbols: [number, string][] }
export interface Link { op: number; kind: string }

interface RawStage {
  lines: number[];
  numbered: number[];
  named: (number | string)[];
  costs: number[];
  runs: number[];
  total: number;
}

export interface Payload {
  version: number;
  title: string;
  templates: string[];
  lines: number[];
  opNames: number[];
  opPlaces: number[];
  stages: RawStage[];
  passes: PassRun[];
  names: string[];
  places: [string, string, number][][];
  files: Record<string, string>;
  costs: [number, number, number, number, number, [string, number][]][];
  kinds: string[];
  codes: Code[];
}

export const DEFINED = 0xe000, USED = 0xe001, OPENED = 0xe002, CLOSED = 0xe003;

/** A template taken apart: text pieces around values, and the order of what opens, closes and is named. */
interface Template { events: number[]; pieces: string[]; ops: number; values: number }

function takeApart(template: string): Template {
  const events: number[] = [];
  const pieces: string[] = [];
  let piece = "", ops = 0, values = 0;
  for (const char of template) {
    const code = char.charCodeAt(0);
    if (code < DEFINED || code > CLOSED) {
      piece += char;
      continue;
    }
    events.push(code);
    if (code === OPENED) ops += 1;
    if (code === DEFINED || code === USED) {
      values += 1;
      pieces.push(piece);
      piece = "";
    }
  }
  pieces.push(piece);
  return { events, pieces, ops, values };
}

export async function readPayload(): Promise<Payload> {
  const text = document.getElementById("recording")!.textContent!;
  const binary = atob(text);
  const data = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) data[i] = binary.charCodeAt(i);
  const stream = new Blob([data]).stream().pipeThrough(new DecompressionStream("gzip"));
  return await new Response(stream).json();
}

export class Recording {
  readonly title: string;
  readonly passes: PassRun[];
  readonly codes: Code[];
  readonly files: Record<string, string>;
  private readonly templates: (Template | undefined)[] = [];
  private readonly lineStart: Int32Array;
  private readonly stages: (Stage | undefined)[] = [];
  private readonly forwards: (Map<number, Link[]> | undefined)[] = [];
  private readonly backwards: (Map<number, Link[]> | undefined)[] = [];
  private readonly opCosts: Map<number, Cost>[] = [];

  constructor(private readonly raw: Payload) {
    this.title = raw.title;
    this.codes = raw.codes;
    this.files = raw.files;
    this.passes = raw.passes.map((run) => ({ ...run, name: run.spec.split("{")[0] }));
    const starts: number[] = [];
    for (let at = 0; at < raw.lines.length;) {
      starts.push(at);
      const template = this.template(raw.lines[at]);
      at += 1 + template.ops + template.values;
    }
    this.lineStart = Int32Array.from(starts);
  }

  get stageCount(): number { return this.raw.stages.length; }
  opName(op: number): string { return this.raw.names[this.raw.opNames[op]]; }
  places(op: number): Place[] {
    return this.raw.places[this.raw.opPlaces[op]].map(([path, file, line]) => ({ path, file, line }));
  }

  template(index: number): Template {
    return (this.templates[index] ??= takeApart(this.raw.templates[index]));
  }

  lineTemplate(line: number): Template { return this.template(this.raw.lines[this.lineStart[line]]); }
  lineTemplateIndex(line: number): number { return this.raw.lines[this.lineStart[line]]; }
  lineOps(line: number): number[] {
    const start = this.lineStart[line] + 1;
    return this.raw.lines.slice(start, start + this.lineTemplate(line).ops);
  }
  lineValues(line: number): number[] {
    const template = this.lineTemplate(line);
    const start = this.lineStart[line] + 1 + template.ops;
    return this.raw.lines.slice(start, start + template.values);
  }

  stage(index: number): Stage {
    return (this.stages[index] ??= new Stage(this, index, this.raw.stages[index]));
  }

  /** What a stage is called: the pass that made it. */
  stageName(index: number): string {
    return index === 0 ? "input" : this.passes.find((run) => run.after === index && run.before !== index)?.name ?? `stage ${index}`;
  }

  cost(index: number): Cost {
    const [additions, multiplications, other, activations, state, weights] = this.raw.costs[index];
    return { additions, multiplications, other, activations, state, weights };
  }

  total(stage: number): Cost { return this.cost(this.raw.stages[stage].total); }

  /** The costs of the ops of a stage; each stage of the file holds only what changed. */
  opCost(stage: number): Map<number, Cost> {
    for (let at = this.opCosts.length; at <= stage; at++) {
      const costs = new Map(this.opCosts[at - 1]);
      const { costs: news } = this.raw.stages[at];
      for (let i = 0; i < news.length; i += 2) costs.set(news[i], this.cost(news[i + 1]));
      this.opCosts.push(costs);
    }
    return this.opCosts[stage];
  }

  /** How often one run of the module runs each function that does not run once. */
  runs(stage: number): Map<number, number> {
    const { runs } = this.raw.stages[stage];
    const counts = new Map<number, number>();
    for (let i = 0; i < runs.length; i += 2) counts.set(runs[i], runs[i + 1]);
    return counts;
  }

  /** Links of the pass between two neighbouring stages: from old ops to new ones. */
  private linksFrom(stage: number): Map<number, Link[]> {
    return (this.forwards[stage] ??= this.linkMap(stage, 0, 1));
  }
  private linksTo(stage: number): Map<number, Link[]> {
    return (this.backwards[stage] ??= this.linkMap(stage - 1, 1, 0));
  }
  private linkMap(stage: number, from: 0 | 1, to: 0 | 1): Map<number, Link[]> {
    const links = this.passes.find((run) => run.before === stage && run.after === stage + 1)?.links ?? [];
    const map = new Map<number, Link[]>();
    for (let i = 0; i < links.length; i += 3) {
      const key = links[i + from];
      if (!map.has(key)) map.set(key, []);
      map.get(key)!.push({ op: links[i + to], kind: this.raw.kinds[links[i + 2]] });
    }
    return map;
  }

  /** What an op of one stage is in the next (step = 1) or was in the one before (step = -1). */
  private step(op: number, stage: number, step: 1 | -1): Link[] {
    const there = this.stage(stage + step).opRow;
    const links = (step === 1 ? this.linksFrom(stage) : this.linksTo(stage)).get(op) ?? [];
    const stays: Link[] = there.has(op) ? [{ op, kind: "same" }] : [];
    return [...stays, ...links.filter((link) => there.has(link.op) && link.op !== op)];
  }

  /** The ops that `op` of stage `from` is in stage `to`, earlier or later, each by the weakest link on its way. */
  follow(op: number, from: number, to: number): Link[] {
    const step = to > from ? 1 : -1;
    const rank = ["same", "replaced", "cloned", "absorbed", "location"];
    let current = new Map<number, string>([[op, "same"]]);
    for (let stage = from; stage !== to && current.size > 0; stage += step) {
      const next = new Map<number, string>();
      for (const [at, kind] of current) {
        for (const link of this.step(at, stage, step)) {
          const weakest = rank.indexOf(link.kind) > rank.indexOf(kind) ? link.kind : kind;
          const known = next.get(link.op);
          if (known === undefined || rank.indexOf(weakest) < rank.indexOf(known)) next.set(link.op, weakest);
        }
      }
      current = next;
    }
    return [...current].map(([at, kind]) => ({ op: at, kind }));
  }
}

/** One stage with its structure: which op each row belongs to, where ops begin and end, what reads what. */
export class Stage {
  readonly lines: Int32Array;
  readonly names = new Map<number, string>();
  /** The op that a row begins, or else the one that it lies in. */
  readonly owner: Int32Array;
  /** For a row that begins an op of several rows, the row where that op ends; else the row itself. */
  readonly end: Int32Array;
  readonly opRow = new Map<number, number>();
  readonly parent = new Map<number, number>();
  /** Where a value is defined (as a result or as a block argument of the op), and the ops that read it, in order. */
  readonly definedBy = new Map<number, { op: number; argument: boolean }>();
  readonly usedBy = new Map<number, number[]>();
  readonly functions: number[] = [];

  constructor(readonly recording: Recording, readonly index: number, raw: RawStage) {
    const lines: number[] = [];
    for (let i = 0; i < raw.lines.length; i += 2) {
      for (let n = 0; n < raw.lines[i + 1]; n++) lines.push(raw.lines[i] + n);
    }
    this.lines = Int32Array.from(lines);
    for (let i = 0; i < raw.numbered.length; i += 3) {
      for (let n = 0; n < raw.numbered[i + 2]; n++) this.names.set(raw.numbered[i] + n, String(raw.numbered[i + 1] + n));
    }
    for (let i = 0; i < raw.named.length; i += 2) this.names.set(raw.named[i] as number, raw.named[i + 1] as string);
    this.owner = new Int32Array(lines.length).fill(-1);
    this.end = Int32Array.from(lines.keys());
    this.readStructure();
  }

  private readStructure(): void {
    const stack: number[] = [];
    const { recording } = this;
    for (let row = 0; row < this.lines.length; row++) {
      const line = this.lines[row];
      const template = recording.lineTemplate(line);
      const ops = recording.lineOps(line), values = recording.lineValues(line);
      this.owner[row] = ops.length > 0 ? ops[0] : stack.at(-1) ?? -1;
      let op = 0, value = 0, results = false;
      for (let i = 0; i < template.events.length; i++) {
        const event = template.events[i];
        if (event === OPENED) {
          const opened = ops[op++];
          if (stack.length > 0) this.parent.set(opened, stack.at(-1)!);
          this.opRow.set(opened, row);
          if (recording.opName(opened) === "func.func") this.functions.push(opened);
          stack.push(opened);
          // Results stand before the name of the op: right behind its beginning, with commas between them.
          results = true;
        } else if (event === CLOSED) {
          const closed = stack.pop()!;
          this.end[this.opRow.get(closed)!] = Math.max(this.end[this.opRow.get(closed)!], row);
        } else {
          const at = values[value];
          results &&= event === DEFINED && (template.pieces[value].trim() === "" || template.pieces[value] === ", ");
          value += 1;
          if (event === DEFINED) this.definedBy.set(at, { op: stack.at(-1)!, argument: !results });
          else if (this.usedBy.has(at)) this.usedBy.get(at)!.push(stack.at(-1)!);
          else this.usedBy.set(at, [stack.at(-1)!]);
        }
      }
    }
  }

  get rows(): number { return this.lines.length; }

  /** The text of a row, and where in it each value stands. */
  row(row: number): { text: string; values: { value: number; start: number; end: number; defined: boolean }[] } {
    const line = this.lines[row];
    const template = this.recording.lineTemplate(line);
    const kinds = template.events.filter((event) => event === DEFINED || event === USED);
    let text = template.pieces[0];
    const values = this.recording.lineValues(line).map((value, i) => {
      const start = text.length;
      text += `%${this.names.get(value) ?? "?"}`;
      const end = text.length;
      text += template.pieces[i + 1];
      return { value, start, end, defined: kinds[i] === DEFINED };
    });
    return { text, values };
  }

  text(row: number): string { return this.row(row).text; }

  /** The op and all that is around it, innermost first. */
  ancestors(op: number): number[] {
    const chain: number[] = [];
    for (let at: number | undefined = op; at !== undefined; at = this.parent.get(at)) chain.push(at);
    return chain;
  }
}
