/** Calls to control. The token is kept only in this tab's session, and sent in a header, never in a URL. */

const TOKEN_KEY = "embedfleet-token";
/** A connection without a byte for this long counts as dead; control sends a comment every 15 s. */
const SILENCE_MS = 40_000;

export function takeTokenFromAddress() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token === null) return;
  sessionStorage.setItem(TOKEN_KEY, token);
  history.replaceState(null, "", location.pathname);
}

export function hasToken() {
  return sessionStorage.getItem(TOKEN_KEY) !== null;
}

export function setToken(token) {
  if (token === null) sessionStorage.removeItem(TOKEN_KEY);
  else sessionStorage.setItem(TOKEN_KEY, token);
}

export class Refused extends Error {}

export async function call(path, { method = "GET", signal } = {}) {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const headers = token === null ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(path, { method, headers, signal, credentials: "same-origin" });
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const { message = `control answered ${response.status}`, cure } = body.error ?? {};
  const text = cure === undefined ? message : `${message}: ${cure}`;
  throw response.status === 401 ? new Refused(text) : new Error(text);
}

/** Authorizes the page of the raw queues, which cannot send the header, to read. */
export async function openQueues() {
  if (hasToken()) await call("api/session", { method: "POST" });
}

/**
 * Reads server-sent events without `EventSource`, which cannot send a header; a token in a URL would end up
 * in logs. Returns when the stream ends; throws when it breaks.
 */
export async function follow(onSnapshot) {
  const abort = new AbortController();
  let timer = setTimeout(() => abort.abort(), SILENCE_MS);
  try {
    const response = await call("api/events", { signal: abort.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value: text } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => abort.abort(), SILENCE_MS);
      const messages = (rest + text).split("\n\n");
      rest = messages.pop();
      for (const message of messages) {
        const data = message.split("\n").filter((line) => line.startsWith("data:"));
        if (data.length > 0) onSnapshot(JSON.parse(data.map((line) => line.slice(5)).join("\n")));
      }
    }
  } finally {
    clearTimeout(timer);
  }
}
