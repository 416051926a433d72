/** The images' recipes: linted, and held to the rules that a linter does not know. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { validate } from "dockerfile-utils";
import { describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** Instructions with their continued lines joined. */
function instructions(text: string): string[] {
  const bare = text.split("\n").filter((line) => !line.trimStart().startsWith("#"));
  return bare
    .join("\n")
    .replaceAll(/\\\n\s*/g, " ")
    .split("\n")
    .filter((line) => line.trim() !== "");
}

describe.each(["Dockerfile", "Dockerfile.cuda"])("%s", (name) => {
  const text = readFileSync(join(root, "infra/docker", name), "utf8");
  const lines = instructions(text);
  const last = (keyword: string): string | undefined => lines.findLast((line) => line.startsWith(`${keyword} `));

  test("has no findings of the linter", () => {
    expect(validate(text).map((finding) => ({ line: finding.range.start.line + 1, message: finding.message }))).toEqual(
      [],
    );
  });

  test("runs as a user that is not root, without a shell in front", () => {
    expect(last("USER")).toMatch(/^USER [1-9]\d{3,}:[1-9]\d{3,}$/);
    expect(last("ENTRYPOINT")).toMatch(/^ENTRYPOINT \["tini", "--", /);
    expect(last("HEALTHCHECK")).toContain("/healthz");
  });

  test("names its bases by version, and no secrets", () => {
    const bases = lines.filter((line) => /^ARG \w+_IMAGE=/.test(line));
    expect(bases.length).toBeGreaterThan(0);
    for (const base of bases) expect(base).toMatch(/:[\w.-]*\d[\w.-]*$/);
    expect(text).not.toMatch(/:latest|^(?:ARG|ENV) .*(?:SECRET|PASSWORD|TOKEN)/m);
  });

  test("copies only what is there and let through to the build", () => {
    const ignore = readFileSync(join(root, "infra/docker", `${name}.dockerignore`), "utf8").split("\n");
    const copied = lines
      .filter((line) => line.startsWith("COPY ") && !line.includes("--from="))
      .flatMap((line) => line.split(/\s+/).slice(1, -1));
    expect(copied.length).toBeGreaterThan(5);
    for (const path of copied) {
      expect(existsSync(join(root, path)), path).toBe(true);
      expect(ignore, path).toContain(`!${path}`);
    }
  });
});

test("the allocator that the image for producers preloads is installed in it", () => {
  const lines = instructions(readFileSync(join(root, "infra/docker/Dockerfile"), "utf8"));
  expect(lines).toContain("ENV LD_PRELOAD=libjemalloc.so.2");
  expect(lines.findLast((line) => line.includes("apt-get install"))).toContain(" libjemalloc2 ");
});
