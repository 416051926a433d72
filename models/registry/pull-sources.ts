/** Sources that models are pulled from: the Hugging Face hub over HTTP, or a mirror in a store. */
import { FleetError, messageOf } from "../../src/core/errors.ts";
import type { ObjectStore } from "../../src/core/ports.ts";
import { MissingFile, type ModelSource, type OpenedFile } from "./pull.ts";

const MAX_REDIRECTS = 5;
/** Timeout without a byte. The whole download has no limit: a large file over a slow line is not an error. */
const IDLE_TIMEOUT_MS = 60_000;
const MIRROR_READ_BYTES = 16 * 1024 * 1024;

export interface HubParams {
  /** `https://huggingface.co`, or a server with the same layout. */
  readonly endpoint: string;
  readonly repository: string;
  readonly revision: string;
  /** Sent only to the endpoint, never to a redirect's target, and never logged. */
  readonly token?: string | undefined;
  readonly idleTimeoutMs?: number;
}

export class HubSource implements ModelSource {
  readonly name: string;
  readonly #params: HubParams;

  constructor(params: HubParams) {
    this.#params = params;
    this.name = `${new URL(params.endpoint).origin}/${params.repository}@${params.revision}`;
  }

  async open({ path, start }: Readonly<{ path: string; start: number }>): Promise<OpenedFile> {
    const { endpoint, repository, revision } = this.#params;
    const file = path.split("/").map(encodeURIComponent).join("/");
    let url = new URL(`${endpoint.replace(/\/$/, "")}/${repository}/resolve/${encodeURIComponent(revision)}/${file}`);
    // Large files are stored elsewhere, and only the hub's own response has their digest and the commit.
    const told = new Headers();
    for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
      const idle = new IdleTimer(this.#params.idleTimeoutMs ?? IDLE_TIMEOUT_MS);
      const response = await this.#fetch(url, start, idle);
      for (const [name, value] of response.headers) if (name.startsWith("x-")) told.set(name, value);
      const location = response.headers.get("location");
      const isRedirect = response.status >= 300 && response.status < 400 && location !== null;
      if (!isRedirect) return this.#answer({ path, start, response, told, idle });
      idle.stop();
      await response.body?.cancel();
      url = new URL(location, url);
    }
    throw new FleetError("model_unavailable", `${this.name} redirects ${path} more than ${MAX_REDIRECTS} times`);
  }

  async #fetch(url: URL, start: number, idle: IdleTimer): Promise<Response> {
    const request = { headers: this.#headers(url, start), redirect: "manual", signal: idle.signal } as const;
    return fetch(url, request).catch((error: unknown) => {
      idle.stop();
      // Fetch reports only that it failed; the reason is in the cause.
      throw new Error(messageOf((error as Error).cause ?? error), { cause: error });
    });
  }

  #headers(url: URL, start: number): Record<string, string> {
    const { endpoint, token } = this.#params;
    const isHub = url.origin === new URL(endpoint).origin;
    return {
      "accept-encoding": "identity",
      ...(start > 0 && { range: `bytes=${start}-` }),
      ...(isHub && token !== undefined && { authorization: `Bearer ${token}` }),
    };
  }

  #answer(
    params: Readonly<{ path: string; start: number; response: Response; told: Headers; idle: IdleTimer }>,
  ): OpenedFile {
    const { path, start, response, told, idle } = params;
    const { status, headers } = response;
    const close = async (): Promise<void> => {
      idle.stop();
      // A body that was read, or is being read, is closed by its reader.
      if (response.body?.locked === false) await response.body.cancel();
    };
    const said = {
      sha256: /^"?([0-9a-f]{64})"?$/.exec(told.get("x-linked-etag") ?? "")?.[1] ?? null,
      revision: told.get("x-repo-commit"),
      close,
    };
    if (status !== 200 && status !== 206) idle.stop();
    // The partial file is the whole file, or longer than it.
    if (status === 416)
      return { body: emptyBody(), start: wholeBytes(headers) ?? 0, bytes: wholeBytes(headers), ...said };
    if (status !== 200 && status !== 206) throw this.#refusal(path, status);
    if (response.body === null) throw new Error("the response has no body");
    const bytes = status === 206 ? wholeBytes(headers) : lengthOf(headers);
    return { body: idle.watch(response.body), start: status === 206 ? start : 0, bytes, ...said };
  }

  #refusal(path: string, status: number): Error {
    if (status === 401 || status === 403) {
      return new FleetError("model_unavailable", `${this.name} refuses access to ${path} (HTTP ${status})`, {
        cure: "set HF_TOKEN to a token that may read the repository, and accept its terms on its page",
      });
    }
    if (status === 404 || status === 410) {
      return new MissingFile(
        `${this.name} has no ${path} (HTTP ${status})`,
        "check that the repository has this file at this revision; choose a mirror with HF_ENDPOINT or --from",
      );
    }
    return new Error(`HTTP ${status}`);
  }
}

/** Aborts when no byte has arrived for a while. */
class IdleTimer {
  readonly #abort = new AbortController();
  readonly #timeoutMs: number;
  #timer: NodeJS.Timeout;

  constructor(timeoutMs: number) {
    this.#timeoutMs = timeoutMs;
    this.#timer = this.#start();
  }

  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  async *watch(body: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of body) {
        clearTimeout(this.#timer);
        yield chunk;
        this.#timer = this.#start();
      }
    } finally {
      this.stop();
    }
  }

  stop(): void {
    clearTimeout(this.#timer);
  }

  #start(): NodeJS.Timeout {
    const timeout = new Error(`no byte arrived for ${this.#timeoutMs} ms`);
    return setTimeout(() => this.#abort.abort(timeout), this.#timeoutMs);
  }
}

async function* emptyBody(): AsyncGenerator<Uint8Array> {}

/** The total size: 10 for `bytes 5-9/10`. */
function wholeBytes(headers: Headers): number | null {
  const total = /\/(\d+)$/.exec(headers.get("content-range") ?? "")?.[1];
  return total === undefined ? null : Number(total);
}

function lengthOf(headers: Headers): number | null {
  const length = headers.get("content-length");
  return length === null ? null : Number(length);
}

/** A store's folder with the files in the layout of their repository. */
export class MirrorSource implements ModelSource {
  readonly name: string;
  readonly #store: ObjectStore;

  constructor(store: ObjectStore) {
    this.name = store.url;
    this.#store = store;
  }

  async open({ path, start }: Readonly<{ path: string; start: number }>): Promise<OpenedFile> {
    const info = await this.#store.stat({ key: path });
    if (info === null) {
      throw new MissingFile(
        `the mirror ${this.name} has no ${path}`,
        "a mirror must have a model's files in the layout of its repository",
      );
    }
    const { bytes } = info;
    // A longer partial file belongs to another file.
    const from = start > bytes ? 0 : start;
    return {
      body: this.#read(path, from, bytes),
      start: from,
      bytes,
      sha256: null,
      revision: null,
      close: async () => {},
    };
  }

  async *#read(key: string, start: number, bytes: number): AsyncGenerator<Uint8Array> {
    for (let at = start; at < bytes; at += MIRROR_READ_BYTES) {
      const end = Math.min(at + MIRROR_READ_BYTES, bytes);
      yield await this.#store.read({ key, range: { start: at, end } }).catch((error: unknown) => {
        // The store has already retried; its error is final only if it says so.
        throw error instanceof FleetError && error.code !== "store_unavailable" ? error : new Error(messageOf(error));
      });
    }
  }
}
