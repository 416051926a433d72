/**
 * Runs where embedfleet is installed as a package: keeps ONNX Runtime's install script from downloading the libraries for
 * GPUs, because behind a closed network that fails the whole installation. ONNX Runtime's package contains the runtime for
 * CPUs; `embedfleet doctor --install-gpu` downloads the rest. The script still obeys its own flag and variable.
 *
 * npm runs all `preinstall` scripts before the first `postinstall`. Nothing here may fail an installation.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";

const MARK = "// Added by embedfleet.";
const GUARD = `${MARK}
if (
  !process.env.ONNXRUNTIME_NODE_INSTALL &&
  !process.env.npm_config_onnxruntime_node_install &&
  !process.argv.some((arg) => arg.startsWith("--onnxruntime-node-install"))
)
  process.exit(0);
`;

try {
  const script = createRequire(import.meta.url).resolve("onnxruntime-node/script/install.js");
  const text = readFileSync(script, "utf8");
  if (!text.includes(MARK)) writeFileSync(script, GUARD + text);
} catch (error) {
  // In this repository the packages are not there yet.
  if (error.code !== "MODULE_NOT_FOUND") console.warn(`embedfleet: ${error.message}`);
}
