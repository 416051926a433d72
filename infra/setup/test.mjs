/**
 * `npm test` and `npm run test:more`: installs what is missing, builds, and runs a tier of the tests, or the files that
 * are named, of whichever tier. None of it needs a GPU.
 *
 *     node infra/setup/test.mjs contributor|more|all [words for vitest]
 */
import {
  BROWSER,
  build,
  DEPLOY_TOOLS,
  fail,
  installHelm,
  installModelTools,
  installLanceDb,
  installPackages,
  installPrograms,
  installTypeDoc,
  OPENSSL,
  requireRedis,
  root,
  run,
  S3_SERVER,
} from "./prepare.mjs";

/** The tiers, with the projects in test/vitest.config.ts that each runs. */
const TIERS = { contributor: ["unit", "contributor"], more: ["more"], all: [] };
const [tier, ...words] = process.argv.slice(2);
if (!(tier in TIERS)) fail(`there is no tier ${tier}\n  choose one of ${Object.keys(TIERS).join(", ")}`);
const namesFiles = words.length > 0 && !words[0].startsWith("-");
const isWhole = tier === "all" || namesFiles;

installPackages();
requireRedis();
installPrograms(OPENSSL);
installPrograms(S3_SERVER);
installModelTools();
if (tier === "contributor" || isWhole) {
  installPrograms(DEPLOY_TOOLS);
  installHelm();
}
if (tier === "more" || isWhole) {
  installLanceDb();
  installTypeDoc();
  installPrograms(BROWSER);
}
build();
const vitest = `${root}/node_modules/vitest/vitest.mjs`;
const projects = isWhole ? [] : TIERS[tier].map((name) => `--project=${name}`);
run(process.execPath, [vitest, "run", "--config", "test/vitest.config.ts", ...projects, ...words]);
