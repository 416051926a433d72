import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { defineConfig, type Plugin } from "vitest/config";

const root = fileURLToPath(new URL("..", import.meta.url));

/**
 * Tests import `../../src/x.ts`, for types and for editors, and run `dist/src/x.js`: the JavaScript that is
 * shipped, whose worker threads need real .js files beside them.
 */
function shippedJavaScript(): Plugin {
  return {
    name: "shipped-javascript",
    enforce: "pre",
    resolveId(source, importer) {
      if (importer === undefined || !source.startsWith(".") || !source.endsWith(".ts")) return null;
      const path = relative(root, resolve(dirname(importer), source))
        .split(sep)
        .join("/");
      if (!/^(?:src|workers|producers|models)\//.test(path)) return null;
      const built = resolve(root, "dist", path.replace(/\.ts$/, ".js"));
      if (!existsSync(built)) throw new Error(`${built} is not there: run npm run build before the tests`);
      return built;
    },
  };
}

/**
 * What `npm run test:more` runs and `npm test` leaves to it: long rounds of chaos, all seeds of the simulation, fleets of
 * many processes or stores, a browser, the commands of the docs, and tools that most changes do not touch (LanceDB, PyTorch,
 * TypeDoc).
 */
const MORE = [
  "test/chaos/**/*.test.ts",
  "test/simulation/seeds-*.test.ts",
  "test/deploy/image-files.test.ts",
  ...[
    "api-docs",
    "dashboard",
    "distributed",
    "docs",
    "eval",
    "install",
    "interrupt",
    "nightly",
    "package",
    "redis-silent",
    "s3-policy",
    "scaling",
    "secrets",
  ].map((name) => `test/e2e/${name}.test.ts`),
  ...[
    "backpressure",
    "bench-model",
    "child-settings",
    "engines",
    "export-layouts",
    "lance-index",
    "metrics",
    "model-export",
    "model-layouts",
    "other-weights",
    "refused-models",
    "report",
    "shared-producers",
    "sources-written",
    "torch-reference",
    "two-stores",
    "wrong-worker",
  ].map((name) => `test/integration/${name}.test.ts`),
];

const UNIT = "test/unit/**/*.test.ts";
const SERVERS = ["test/fixtures/global-setup.ts"];

export default defineConfig({
  root,
  plugins: [shippedJavaScript()],
  test: {
    environment: "node",
    // `npm test` runs the first two, `npm run test:more` the third; a file named on the command line is found in whichever it is.
    projects: [
      // These need no server and leave nothing behind, so they share a process: a fifth less processor time.
      { extends: true, test: { name: "unit", include: [UNIT], isolate: false } },
      {
        extends: true,
        test: { name: "contributor", include: ["test/**/*.test.ts"], exclude: [UNIT, ...MORE], globalSetup: SERVERS },
      },
      { extends: true, test: { name: "more", include: MORE, globalSetup: SERVERS } },
    ],
    // Workers measure the device once for all tests, and nothing is left in anyone's home.
    env: {
      EMBEDFLEET_CACHE: resolve(root, "node_modules/.cache/embedfleet"),
      XDG_CONFIG_HOME: resolve(root, "node_modules/.cache/embedfleet-config"),
    },
    pool: "forks",
    // On two cores, too, where two at a time took 988 s and one 1,391: tests wait for processes, locks and disks.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    // Stories of the simulation leave nothing behind: a larger nursery saves a sixth of their time.
    execArgv: ["--max-semi-space-size=64"],
    testTimeout: 120_000,
    hookTimeout: 180_000,
    // Loaded by Node itself and not by vite: one instance of each module, as in production.
    server: { deps: { external: [/\/dist\//] } },
  },
});
