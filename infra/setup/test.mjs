/** `npm test`: installs what is missing, builds, and runs everything that needs no GPU. */
import {
  BROWSER,
  build,
  DEPLOY_TOOLS,
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

installPackages();
installLanceDb();
installTypeDoc();
requireRedis();
installPrograms(OPENSSL);
installPrograms(S3_SERVER);
installPrograms(DEPLOY_TOOLS);
installPrograms(BROWSER);
installModelTools();
installHelm();
build();
const vitest = `${root}/node_modules/vitest/vitest.mjs`;
run(process.execPath, [vitest, "run", "--config", "test/vitest.config.ts", ...process.argv.slice(2)]);
