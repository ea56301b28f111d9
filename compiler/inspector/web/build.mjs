// Bundles src/ into ../bundle: viewer.js, viewer.css, the licences of what is inside, and a digest of the sources.
import { build } from "esbuild";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, writeFileSync, mkdirSync, existsSync } from "node:fs";
import { join } from "node:path";

const here = import.meta.dirname;
const out = join(here, process.argv[2] ?? "../bundle");
mkdirSync(out, { recursive: true });

const result = await build({
  absWorkingDir: here,
  entryPoints: { viewer: "src/main.ts" },
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  charset: "utf8",
  legalComments: "none",
  metafile: true,
  outdir: out,
  logLevel: "warning",
});

const packages = [...new Set(Object.keys(result.metafile.inputs)
  .map((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1])
  .filter(Boolean))].sort();
const notices = packages.map((name) => {
  const folder = join(here, "node_modules", name);
  const { version, license } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = ["LICENSE", "LICENSE.md", "LICENSE.txt"].map((f) => join(folder, f)).find(existsSync);
  if (!file) throw new Error(`${name} has no licence file`);
  return `${name} ${version} (${license})\n\n${readFileSync(file, "utf8").trim()}\n`;
});
const rule = "\n" + "-".repeat(72) + "\n\n";
const licences = "The inspector's viewer contains these packages.\n" + rule + notices.join(rule);
writeFileSync(join(out, "THIRD_PARTY_LICENSES.txt"), licences);

// The licences ask to go wherever the code goes, so every report carries them.
const script = join(out, "viewer.js");
writeFileSync(script, readFileSync(script, "utf8") + `/*\n${licences.replaceAll("*/", "* /")}*/\n`);

const sources = ["build.mjs", "package.json", "package-lock.json", "tsconfig.json",
  ...readdirSync(join(here, "src")).sort().map((name) => `src/${name}`)];
const digest = createHash("sha256");
for (const name of sources) digest.update(`${name}\0`).update(readFileSync(join(here, name))).update("\0");
writeFileSync(join(out, "sources.sha256"), digest.digest("hex") + "\n");
