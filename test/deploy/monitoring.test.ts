/** Alerts and dashboard: Prometheus' own checks, and the proof that every metric they name exists. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { parse } from "yaml";
import { METRICS } from "../../src/telemetry/metrics.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const ALERTS = "infra/helm/embedfleet/alerts.yml";
const ALERT_TESTS = "infra/compose/alerts.test.yml";

interface Alert {
  readonly alert: string;
  readonly expr: string;
  readonly annotations: { readonly runbook: string };
}

function alerts(): Alert[] {
  return (parse(read(ALERTS)) as { groups: { rules: Alert[] }[] }).groups.flatMap(({ rules }) => rules);
}

function read(path: string): string {
  return readFileSync(join(root, path), "utf8");
}

/** Series that a metric of the table has under its own name or as a histogram. */
const known: ReadonlySet<string> = new Set(
  Object.values(METRICS).flatMap(({ name, type }) =>
    type === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  ),
);

function namesIn(expression: string): string[] {
  return [...expression.matchAll(/\bembedfleet_\w+/g)].map(([name]) => name);
}

test("Prometheus finds the alert rules sound", () => {
  execFileSync("promtool", ["check", "rules", join(root, ALERTS)], { stdio: "pipe" });
});

test("every alert fires in trouble and is quiet in a healthy night", () => {
  execFileSync("promtool", ["test", "rules", join(root, ALERT_TESTS)], { stdio: "pipe" });
  const tested = new Set(
    [...read(ALERT_TESTS).matchAll(/eval_time: \w+\n\s+alertname: (\w+)/g)].map(([, name]) => name),
  );
  expect(tested).toEqual(new Set(alerts().map(({ alert }) => alert)));
});

test("every metric that an alert or a panel names is one of the fleet's", () => {
  const dashboard = JSON.parse(read("infra/compose/grafana/dashboard.json")) as {
    panels: { type: string; title: string; targets?: { expr: string }[] }[];
  };
  const panels = dashboard.panels.filter(({ type }) => type !== "row");
  expect(panels.length).toBeGreaterThan(15);
  for (const { title, targets = [] } of panels) {
    expect(targets.length, title).toBeGreaterThan(0);
    for (const { expr } of targets) for (const name of namesIn(expr)) expect(known, title).toContain(name);
  }
  for (const { alert, expr } of alerts()) {
    expect(namesIn(expr).length, alert).toBeGreaterThan(0);
    for (const name of namesIn(expr)) expect(known, alert).toContain(name);
  }
});

test("every alert has its runbook", () => {
  const headings = new Set([...read("docs/runbooks.md").matchAll(/^## (\w+)$/gm)].map(([, name]) => name!));
  for (const { alert, annotations } of alerts()) {
    expect(headings).toContain(alert);
    expect(annotations.runbook).toBe(`docs/runbooks.md#${alert.toLowerCase()}`);
  }
});

test("the compose file is one that Compose accepts", () => {
  const folder = join(root, "infra/compose");
  const args = ["--env-file", "example.env", "config", "--quiet"];
  expect(() => execFileSync("docker-compose", args, { cwd: folder, stdio: "pipe" })).not.toThrow();
  const compose = parse(read("infra/compose/compose.yaml"), { merge: true }) as {
    services: Record<string, { image: string; ports?: string[]; read_only?: boolean }>;
  };
  for (const [name, { image, ports = [] }] of Object.entries(compose.services)) {
    expect(image, name).toMatch(/:[\w.-]+$/);
    for (const port of ports) expect(port, name).toMatch(/^127\.0\.0\.1:/);
  }
  for (const name of ["control", "worker", "producer", "helper"]) expect(compose.services[name]!.read_only).toBe(true);
});
