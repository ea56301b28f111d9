// Colours for IR and target code, drawn a row at a time; marks for words that differ and words that were searched for.

import hljs from "highlight.js/lib/core";
import llvm from "highlight.js/lib/languages/llvm";
import python from "highlight.js/lib/languages/python";
import verilog from "highlight.js/lib/languages/verilog";
import x86asm from "highlight.js/lib/languages/x86asm";
import type { LanguageFn } from "highlight.js";
import type { Range } from "./diff";

const mlir: LanguageFn = () => ({
  name: "MLIR",
  contains: [
    { scope: "comment", begin: /\/\//, end: /$/ },
    { scope: "symbol", match: /@"[^"]*"|@[\w$.-]+/ },
    { scope: "string", begin: /"/, end: /"/, contains: [{ match: /\\./ }] },
    { scope: "variable", match: /%[\w$.-]+/ },
    { scope: "type", match: /![\w.]+|\b(?:tensor|memref|vector|tuple)\b|(?:(?:\d+|\?)x)+(?:[fiu]\d+|bf16|index)?|\b(?:[fiu]\d+|bf16|index|none)\b/ },
    { scope: "meta", match: /#[\w.]+|\^\w+/ },
    { scope: "title", match: /\b[a-z_]\w*(?:\.[a-z_]\w*)+\b/ },
    { scope: "number", match: /\b-?(?:0x[\dA-Fa-f]+|\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)\b/ },
    { scope: "keyword", match: /\b(?:attributes|private|loc|true|false|dense|array|ins|outs|gains|of|eps|lanes|reads|with|quantized|steps|weights|scales|tile)\b/ },
  ],
});

hljs.registerLanguage("mlir", mlir);
hljs.registerLanguage("llvm", llvm);
hljs.registerLanguage("python", python);
hljs.registerLanguage("triton", python);
hljs.registerLanguage("verilog", verilog);
hljs.registerLanguage("asm", x86asm);

/** A target's word for what it emits ("llvm", "asm (avx2)") as a language that we can colour, or none. */
export function languageOf(kind: string): string | undefined {
  return ["llvm", "asm", "triton", "python", "verilog", "mlir"].find((name) => kind.startsWith(name));
}

export function highlight(target: HTMLElement, text: string, language: string | undefined): void {
  if (language === undefined) target.textContent = text;
  // The library escapes the text; its output is markup of spans alone.
  else target.innerHTML = hljs.highlight(text, { language, ignoreIllegals: true }).value;
}

/** The text nodes of an element, and where in its text each one begins. */
function textNodes(target: HTMLElement): [Text, number][] {
  const walker = document.createTreeWalker(target, NodeFilter.SHOW_TEXT);
  const nodes: [Text, number][] = [];
  for (let at = 0; walker.nextNode();) {
    const node = walker.currentNode as Text;
    nodes.push([node, at]);
    at += node.data.length;
  }
  return nodes;
}

/** Ends lines at offsets of the element's text. */
export function breakAt(target: HTMLElement, offsets: number[]): void {
  if (offsets.length === 0) return;
  for (const [node, start] of textNodes(target)) {
    const end = start + node.data.length;
    for (const offset of [...offsets].reverse()) {
      if (offset > start && offset < end) node.splitText(offset - start).before(document.createElement("br"));
      else if (offset === start) node.before(document.createElement("br"));
    }
  }
}

/** Wraps ranges of the element's text in `<mark>`s of a class. */
export function mark(target: HTMLElement, ranges: Range[], className: string): void {
  if (ranges.length === 0) return;
  const nodes = textNodes(target);
  for (const [node, start] of nodes) {
    const end = start + node.data.length;
    // From the last range to the first, so that what is split off lies behind what is still to do.
    for (const [from, to] of [...ranges].reverse()) {
      if (to <= start || from >= end) continue;
      const first = Math.max(from - start, 0), last = Math.min(to, end) - start;
      const rest = first > 0 ? node.splitText(first) : node;
      if (rest.data.length > last - first) rest.splitText(last - first);
      const wrapper = document.createElement("mark");
      wrapper.className = className;
      rest.replaceWith(wrapper);
      wrapper.append(rest);
      if (rest === node) break;
    }
  }
}
