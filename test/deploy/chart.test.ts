/**
 * The chart as Helm renders it, held against the schemas of Kubernetes, KEDA and the Prometheus operator.
 * No package of Debian or npm has Helm: where it is missing, the run's last lines say that this was not run.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, inject, test } from "vitest";
import { parseAllDocuments } from "yaml";

const helm = inject("helm");
const script = fileURLToPath(new URL("../../infra/helm/render.sh", import.meta.url));
const folder = mkdtempSync(join(tmpdir(), "embedfleet-chart-"));
if (helm !== null) execFileSync(script, [folder], { env: { ...process.env, HELM: helm }, stdio: "pipe" });
afterAll(() => rmSync(folder, { recursive: true }));

const load = createRequire(import.meta.url);
/** Packages with the schemas of kinds that are not Kubernetes' own. */
const EXTENSIONS: Readonly<Record<string, string>> = {
  "keda.sh": "@kubernetes-models/keda",
  "monitoring.coreos.com": "@kubernetes-models/prometheus-operator",
};

interface Resource {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly spec?: Record<string, unknown>;
}

interface Pod {
  readonly terminationGracePeriodSeconds?: number;
  readonly securityContext: { readonly runAsNonRoot: boolean };
  readonly automountServiceAccountToken: boolean;
  readonly containers: readonly {
    readonly args: readonly string[];
    readonly env: readonly { readonly name: string; readonly value?: string; readonly valueFrom?: unknown }[];
    readonly securityContext: { readonly readOnlyRootFilesystem: boolean; readonly allowPrivilegeEscalation: boolean };
    readonly resources: { readonly limits?: { readonly memory?: string } };
  }[];
}

function resourcesOf(file: string): Resource[] {
  const documents = parseAllDocuments(readFileSync(join(folder, file), "utf8"));
  return documents.map((document) => document.toJSON() as Resource | null).filter((each) => each !== null);
}

/** Throws what the schema finds wrong. */
function validate(resource: Resource): void {
  const { apiVersion, kind } = resource;
  const group = apiVersion.includes("/") ? apiVersion.slice(0, apiVersion.indexOf("/")) : "";
  const module = load(`${EXTENSIONS[group] ?? "kubernetes-models"}/${apiVersion}/${kind}`) as Record<
    string,
    new (data: Resource) => { validate(): void }
  >;
  new module[kind]!(resource).validate();
}

/** The pod's spec wherever the kind keeps it. */
function podOf(resource: Resource): Pod | null {
  const spec = resource.spec as { template?: { spec: Pod }; jobTargetRef?: { template: { spec: Pod } } } | undefined;
  return spec?.template?.spec ?? spec?.jobTargetRef?.template.spec ?? null;
}

describe.skipIf(helm === null).each(["default.yaml", "gpu.yaml"])("%s", (file) => {
  const resources = helm === null ? [] : resourcesOf(file);

  test("is valid against the schemas", () => {
    expect(resources.length).toBeGreaterThan(6);
    for (const resource of resources) {
      expect(() => validate(resource), `${resource.kind} ${resource.metadata.name}`).not.toThrow();
    }
  });

  test("runs everything without root, on a root file system that cannot be written", () => {
    const pods = resources.map(podOf).filter((pod) => pod !== null);
    expect(pods.length).toBeGreaterThan(1);
    for (const pod of pods) {
      expect(pod.securityContext.runAsNonRoot).toBe(true);
      expect(pod.automountServiceAccountToken).toBe(false);
      for (const { securityContext, resources: needs } of pod.containers) {
        expect(securityContext).toMatchObject({ readOnlyRootFilesystem: true, allowPrivilegeEscalation: false });
        expect(needs.limits?.memory).toBeDefined();
      }
    }
  });

  test("takes secrets by reference only", () => {
    const pods = resources.map(podOf).filter((pod) => pod !== null);
    const env = pods.flatMap((pod) => pod.containers.flatMap((container) => container.env));
    const secrets = env.filter(({ name }) => /REDIS_URL|TOKEN|SECRET|PASSWORD|ACCESS_KEY/.test(name));
    expect(secrets.length).toBeGreaterThan(3);
    for (const { name, value, valueFrom } of secrets) {
      expect(value, name).toBeUndefined();
      expect(valueFrom, name).toHaveProperty("secretKeyRef");
    }
  });
});

test.skipIf(helm === null)("every device class has a worker that scales on tokens and ends in its own time", () => {
  const resources = resourcesOf("gpu.yaml");
  const scalers = resources.filter(({ kind }) => kind === "ScaledObject" || kind === "ScaledJob");
  expect(new Set(scalers.map(({ kind }) => kind))).toEqual(new Set(["ScaledJob", "ScaledObject"]));
  for (const { spec } of scalers) {
    expect(spec).toMatchObject({ minReplicaCount: 0, triggers: [{ type: "metrics-api" }] });
  }
  const workers = resources.map(podOf).filter((pod) => pod?.containers[0]?.args[0] === "work");
  expect(workers).toHaveLength(2);
  for (const pod of workers) expect(pod!.terminationGracePeriodSeconds).toBeGreaterThanOrEqual(120);
});

test.skipIf(helm === null)(
  "a corpus with helpers is enqueued for several, and as many as were asked for help its run",
  () => {
    const jobs = resourcesOf("gpu.yaml").filter(({ kind }) => kind === "Job");
    expect(jobs.map((job) => podOf(job)!.containers[0]!.args)).toEqual([
      ["enqueue", "s3://corpora/docs/", "--run", "2026-spring", "--heads", "dense,sparse", "--distributed"],
      ["produce", "2026-spring"],
    ]);
    // Each pod ends by itself, so their number is not known beforehand.
    expect(jobs[1]!.spec).toMatchObject({ parallelism: 4 });
    expect(jobs[1]!.spec).not.toHaveProperty("completions");
  },
);
