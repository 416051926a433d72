/** The probe at start tells a store that keeps its promises from each kind that does not. */
import { describe, expect, test } from "vitest";
import { FleetError } from "../../src/core/errors.ts";
import type { CreateOutcome, ObjectInfo, ObjectStore } from "../../src/core/ports.ts";
import {
  isEssential,
  type ProbeFailure,
  probeStore,
  type StoreProperty,
  whatIsLost,
} from "../../src/run/probe-store.ts";
import { ScriptedStore } from "../fixtures/scripted-store.ts";

type Create = ObjectStore["create"];
type Read = ObjectStore["read"];

/** A sound store of which some operations are replaced. */
function storeWith(change: (sound: ScriptedStore) => Partial<ObjectStore>): {
  store: ObjectStore;
  objects: Map<string, Uint8Array>;
} {
  const objects = new Map<string, Uint8Array>();
  const sound = new ScriptedStore({ objects });
  const changed = change(sound);
  const store = new Proxy<ObjectStore>(sound, {
    get(target, name) {
      const member: unknown = Reflect.get(name in changed ? changed : target, name);
      // Private fields are found on the store itself only.
      return typeof member === "function" && !(name in changed) ? member.bind(target) : member;
    },
  });
  return { store, objects };
}

function flipped(bytes: Uint8Array): Uint8Array {
  // Not `slice`, which for a Buffer shares its memory.
  const other = new Uint8Array(bytes);
  other[other.length >> 1]! ^= 1;
  return other;
}

/** Two writers of one name at once both win; one after the other they do not. */
function twoWinners(sound: ScriptedStore): Create {
  const underWay = new Map<string, number>();
  return async ({ key, body }) => {
    underWay.set(key, (underWay.get(key) ?? 0) + 1);
    const isSecond = underWay.get(key) === 2;
    const outcome = await sound.create({ key, body });
    await Promise.resolve();
    underWay.set(key, underWay.get(key)! - 1);
    return isSecond ? "created" : outcome;
  };
}

/** Says "exists" and yet keeps the last of several racing bodies. */
function loserOverwrites(sound: ScriptedStore): Create {
  return async ({ key, body }) => {
    const outcome = await sound.create({ key, body });
    if (outcome === "exists" && key.includes("race")) await sound.replace({ key, body });
    return outcome;
  };
}

async function* without(items: AsyncIterable<ObjectInfo>, skipped: number): AsyncGenerator<ObjectInfo> {
  for await (const item of items) if (skipped-- <= 0) yield item;
}

async function* withSizeOff(items: AsyncIterable<ObjectInfo>): AsyncGenerator<ObjectInfo> {
  for await (const info of items) yield { ...info, bytes: info.bytes + 16 };
}

/** Compares, and writes a moment later: the most that can be done on a server that ignores If-Match. */
function comparesOnly(sound: ScriptedStore): ObjectStore["replace"] {
  return async ({ key, body, ifVersion }) => {
    if (((await sound.readVersion({ key }))?.version ?? null) !== ifVersion) return "changed";
    await Promise.resolve();
    return sound.replace({ key, body });
  };
}

const overwrite =
  (sound: ScriptedStore, outcome: CreateOutcome): Create =>
  async ({ key, body }) => {
    await sound.replace({ key, body });
    return outcome;
  };

const reading =
  (sound: ScriptedStore, change: (bytes: Uint8Array, params: Parameters<Read>[0]) => Uint8Array): Read =>
  async (params) =>
    change(await sound.read(params), params);

const UNSOUND: [string, StoreProperty, (sound: ScriptedStore) => Partial<ObjectStore>][] = [
  ["ignores create-if-absent", "create-if-absent", (sound) => ({ create: overwrite(sound, "created") })],
  ["overwrites and says that it did not", "create-if-absent", (sound) => ({ create: overwrite(sound, "exists") })],
  ["lets two racers win", "single-winner", (sound) => ({ create: twoWinners(sound) })],
  ["keeps a losing racer's bytes", "single-winner", (sound) => ({ create: loserOverwrites(sound) })],
  ["corrupts one bit", "bytes-round-trip", (sound) => ({ read: reading(sound, flipped) })],
  ["drops the last byte", "bytes-round-trip", (sound) => ({ read: reading(sound, (bytes) => bytes.slice(0, -1)) })],
  [
    "writes one bit wrong",
    "bytes-round-trip",
    (sound) => ({ create: ({ key, body }) => sound.create({ key, body: flipped(body) }) }),
  ],
  ["answers a range with the whole object", "ranged-read", (sound) => ({ read: ({ key }) => sound.read({ key }) })],
  [
    "takes the end of a range as inclusive",
    "ranged-read",
    (sound) => ({
      read: ({ key, range }) => sound.read({ key, ...(range && { range: { ...range, end: range.end + 1 } }) }),
    }),
  ],
  ["lists a new object late", "list-after-create", (sound) => ({ list: (params) => without(sound.list(params), 1) })],
  ["lists nothing", "list-after-create", (sound) => ({ list: (params) => without(sound.list(params), Infinity) })],
  ["lists wrong sizes", "list-after-create", (sound) => ({ list: (params) => withSizeOff(sound.list(params)) })],
];

describe("a store that keeps its promises", () => {
  test("is accepted, and nothing stays in it", async () => {
    const objects = new Map<string, Uint8Array>([["runs/r/run.json", Buffer.from("{}")]]);
    expect(await probeStore(new ScriptedStore({ objects }))).toEqual([]);
    expect([...objects.keys()]).toEqual(["runs/r/run.json"]);
  });

  test("is accepted by many at once", async () => {
    const objects = new Map<string, Uint8Array>();
    const probes = Array.from({ length: 8 }, () => probeStore(new ScriptedStore({ objects })));
    expect(await Promise.all(probes)).toEqual(probes.map(() => []));
    expect(objects.size).toBe(0);
  });

  test("is accepted when a race's winner lost its answer and was told that the name exists", async () => {
    let isFirst = true;
    const { store } = storeWith((sound) => ({
      create: async (params) => {
        const outcome = await sound.create(params);
        if (!params.key.includes("race") || outcome === "exists" || !isFirst) return outcome;
        isFirst = false;
        return "exists";
      },
    }));
    expect(await probeStore(store)).toEqual([]);
  });
});

describe("objects of a probe whose process was killed", () => {
  const leftover = ".probe/0b2e3f64-5d5c-4b6e-9a4e-0d6c6f3a1b22/race-1";
  const hourAgo = async function* (items: AsyncIterable<ObjectInfo>, ageMs: number): AsyncGenerator<ObjectInfo> {
    for await (const info of items) yield info.key === leftover ? { ...info, modifiedAtMs: Date.now() - ageMs } : info;
  };

  test.each([
    ["an hour", 61 * 60 * 1000, false],
    ["half an hour", 30 * 60 * 1000, true],
  ])("are cleared away by the next probe after %s", async (_, ageMs, stays) => {
    const { store, objects } = storeWith((sound) => ({ list: (params) => hourAgo(sound.list(params), ageMs) }));
    objects.set(leftover, Buffer.from("x"));
    expect(await probeStore(store)).toEqual([]);
    expect(objects.has(leftover)).toBe(stays);
  });

  test("are all that is cleared away", async () => {
    const others = [".probe/mine.txt", ".probe/notes/a", "runs/r/run.json", ".probes/0/a"];
    const objects = new Map(others.map((key) => [key, Buffer.from("x") as Uint8Array]));
    expect(await probeStore(new ScriptedStore({ objects }))).toEqual([]);
    expect([...objects.keys()]).toEqual(others);
  });

  test("do not refuse the store when they cannot be removed", async () => {
    const { store, objects } = storeWith((sound) => ({
      list: (params) => hourAgo(sound.list(params), Infinity),
      remove: async (params) => {
        if (params.key === leftover) throw new FleetError("store_refused", "another user's");
        await sound.remove(params);
      },
    }));
    objects.set(leftover, Buffer.from("x"));
    expect(await probeStore(store)).toEqual([]);
    expect([...objects.keys()]).toEqual([leftover]);
  });
});

describe("a probe that is told to end", () => {
  test("clears away what it made first", async () => {
    const told = new AbortController();
    const { store, objects } = storeWith((sound) => ({
      read: async (params) => {
        told.abort(new Error("told"));
        return sound.read(params);
      },
    }));
    await expect(probeStore(store, { signal: told.signal })).rejects.toThrow("told");
    expect(objects.size).toBe(0);
  });
});

describe("a store that", () => {
  test("only compares before it replaces is accepted, and what that costs is reported", async () => {
    const { store, objects } = storeWith((sound) => ({ replace: comparesOnly(sound) }));
    expect(await probeStore(store)).toEqual([
      { property: "replace-if-unchanged", detail: expect.stringMatching(/4 of 4 simultaneous/) },
    ]);
    expect(whatIsLost("replace-if-unchanged")).toMatch(/If-Match/);
    expect(isEssential("replace-if-unchanged")).toBe(false);
    expect(objects.size).toBe(0);
  });

  test.each(UNSOUND)("%s is refused for its %s, and nothing stays in it", async (_, property, change) => {
    const { store, objects } = storeWith(change);
    await expect(probeStore(store)).rejects.toMatchObject({
      code: "store_refused",
      message: expect.stringMatching(new RegExp(`memory:///.*${property}: `)),
      cure: expect.any(String),
    });
    expect(objects.size).toBe(0);
  });

  test.each(UNSOUND)(
    "%s is let through, with %s and what it costs reported, when that is asked for",
    async (_, property, change) => {
      const failures: readonly ProbeFailure[] = await probeStore(storeWith(change).store, { allowUnsafe: true });
      expect(failures).toContainEqual({ property, detail: expect.stringMatching(/./) });
      for (const failure of failures) expect(whatIsLost(failure.property)).toMatch(/\w+ /);
    },
  );

  test("never lets anybody win a race is refused", async () => {
    const { store } = storeWith((sound) => ({
      create: async (params) => {
        const outcome = await sound.create(params);
        return params.key.includes("race") ? "exists" : outcome;
      },
    }));
    await expect(probeStore(store)).rejects.toThrow(/single-winner: .*none reported success/);
  });

  test("loses what it was given is refused, and not taken for one that is away", async () => {
    const { store } = storeWith(() => ({ create: async () => "created" }));
    await expect(probeStore(store)).rejects.toMatchObject({
      code: "store_refused",
      message: expect.stringContaining("bytes-round-trip: there is no object"),
    });
  });
});

describe("a store that cannot be reached", () => {
  test.each(["create", "read", "list", "remove"] as const)(
    "for %s is no verdict, even when unsafe stores are let through",
    async (op) => {
      const store = new ScriptedStore().script({ op, outcome: "fail-before", times: Infinity });
      await expect(probeStore(store, { allowUnsafe: true })).rejects.toMatchObject({ code: "store_unavailable" });
    },
  );

  test("midway is left without the probe's objects where they can still be removed", async () => {
    const objects = new Map<string, Uint8Array>();
    const store = new ScriptedStore({ objects }).script({ op: "list", outcome: "fail-before" });
    await expect(probeStore(store)).rejects.toMatchObject({ code: "store_unavailable" });
    expect(objects.size).toBe(0);
  });
});
