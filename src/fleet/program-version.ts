/** The version of this program. */
import { createRequire } from "node:module";

/** As in the package's own description. */
export function programVersion(): string {
  const require = createRequire(import.meta.url);
  return (require("../../../package.json") as { version: string }).version;
}
