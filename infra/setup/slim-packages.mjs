/**
 * Removes from `node_modules` what an image does not need: native libraries for other systems, source maps, declarations
 * of types, sources in TypeScript and the packages' own tests and documentation. Licences stay. For images only.
 */
import { readdirSync, rmSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const modules = fileURLToPath(new URL("../../node_modules", import.meta.url));
const PLATFORM = `${process.platform}-${process.arch}`;
const USELESS_FILE = /\.(?:map|[cm]?ts|markdown|md|flow)$/i;
const LICENCE = /^(?:licen[cs]e|copying|notice|authors)/i;
const USELESS_FOLDERS = new Set([".github", "test", "tests", "__tests__", "docs", "example", "examples"]);

/** The names in a folder; none where there is no such folder. */
function namesIn(folder) {
  try {
    return readdirSync(folder, { withFileTypes: true });
  } catch (error) {
    if (error.code === "ENOENT") return [];
    throw error;
  }
}

function remove(path) {
  rmSync(path, { recursive: true, force: true });
}

function packages(folder) {
  return namesIn(folder).flatMap(({ name }) => {
    if (name.startsWith(".")) return [];
    return name.startsWith("@")
      ? namesIn(join(folder, name)).map((each) => join(folder, name, each.name))
      : [join(folder, name)];
  });
}

/** @param isTop Only there are folders named `test` or `docs` certainly not code. */
function slim(folder, isTop) {
  for (const entry of namesIn(folder)) {
    const path = join(folder, entry.name);
    if (entry.isDirectory() && entry.name === "node_modules") packages(path).forEach((each) => slim(each, true));
    else if (entry.isDirectory() && isTop && USELESS_FOLDERS.has(entry.name)) remove(path);
    else if (entry.isDirectory()) slim(path, false);
    else if (USELESS_FILE.test(entry.name) && !LICENCE.test(entry.name)) remove(path);
  }
}

/** ONNX Runtime's folders are `bin/napi-v6/<platform>/<arch>`. */
function slimRuntime() {
  const bin = join(modules, "onnxruntime-node/bin");
  for (const api of namesIn(bin))
    for (const platform of namesIn(join(bin, api.name)))
      for (const arch of namesIn(join(bin, api.name, platform.name)))
        if (`${platform.name}-${arch.name}` !== PLATFORM) remove(join(bin, api.name, platform.name, arch.name));
}

/** The tokenizer's libraries are `tokenizers.<platform>-<arch>-<libc>.node`; the images' systems have glibc. */
function slimTokenizer() {
  const folder = join(modules, "tokenizers");
  for (const { name } of namesIn(folder))
    if (name.endsWith(".node") && basename(name, ".node") !== `tokenizers.${PLATFORM}-gnu`) remove(join(folder, name));
}

slimRuntime();
slimTokenizer();
packages(modules).forEach((each) => slim(each, true));
