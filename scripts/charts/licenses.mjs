// Write the licences of every package in the bundle beside it.
import {existsSync, readdirSync, readFileSync, writeFileSync} from "node:fs";

const root = "node_modules";
const folders = readdirSync(root)
  .flatMap((name) => (name.startsWith("@") ? readdirSync(`${root}/${name}`).map((sub) => `${name}/${sub}`) : [name]))
  .filter((name) => /^(@observablehq\/plot|d3|d3-.*|delaunator|robust-predicates|internmap|isoformat|interval-tree-1d|binary-search-bounds)$/.test(name))
  .sort();
const parts = ["plot.js is a bundle of the following packages (scripts/charts), unchanged but for what is not used.\n"];
for (const name of folders) {
  const facts = JSON.parse(readFileSync(`${root}/${name}/package.json`));
  const file = ["LICENSE", "LICENSE.md", "LICENSE.txt", "UNLICENSE"].find((one) => existsSync(`${root}/${name}/${one}`));
  parts.push(`${"-".repeat(100)}\n${name} ${facts.version} (${facts.license})\n\n${file ? readFileSync(`${root}/${name}/${file}`, "utf8").trim() : ""}\n`);
}
writeFileSync("../../src/leanpacs/report/page/plot.LICENSES.txt", parts.join("\n"));
