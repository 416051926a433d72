/** Redis addresses: one server, the primary according to Sentinel, or a socket. */
import type { RedisOptions } from "ioredis";
import { FleetError, messageOf } from "../../core/errors.ts";
import { redactUrl } from "../../core/redact-url.ts";

const FORMS = [
  "redis://[user:password@]host:port[/database]",
  "rediss://… (TLS)",
  "redis+sentinel://[user:password@]host1:26379,host2:26379/name[/database][?sentinelPassword=…]",
  "unix:///path/to/socket",
];
const SHAPE = /^rediss?(\+sentinel)?:\/\/(?:([^?]*)@)?([^@/?#]*)(?:\/([^?#]*))?(?:\?([^#]*))?$/s;
const HOST_AND_PORT = /^(?:\[([0-9a-f:.]+)\]|([^[\]:\s]*))(?::(\d{1,5}))?$/i;
const SENTINEL_PORT = 26379;
const PARAMETERS = new Set(["family"]);
const SENTINEL_PARAMETERS = new Set(["family", "sentinelUsername", "sentinelPassword"]);

/**
 * The options of ioredis for an address.
 * @throws FleetError `bad_usage` when it is not valid.
 */
export function optionsOfAddress(url: string): RedisOptions {
  if (url.startsWith("unix://")) return { path: url.slice("unix://".length) };
  const parts = SHAPE.exec(url);
  if (parts === null) throw notAnAddress(url);
  const [, sentinel, user = "", hosts = "", path = "", query = ""] = parts;
  try {
    const { username, password } = credentialsOf(user);
    const parameters = parametersOf(query, sentinel === undefined ? PARAMETERS : SENTINEL_PARAMETERS);
    const family = familyOf(parameters.get("family"));
    const login = { ...(username && { username }), ...(password && { password }), ...family };
    const tls = url.startsWith("rediss") ? { tls: {} } : {};
    if (sentinel === undefined) {
      const { host = "localhost", port = 6379 } = placeOf(hosts);
      return { host, port, db: databaseOf(path), ...login, ...tls };
    }
    const [name = "", database = "", ...rest] = path.split("/");
    if (name === "" || rest.length > 0)
      throw new Error("the sentinels must be followed by the name that they monitor: /name");
    return {
      sentinels: hosts.split(",").map((each) => ({ host: "localhost", port: SENTINEL_PORT, ...placeOf(each) })),
      name: decodeURIComponent(name),
      db: databaseOf(database),
      ...login,
      ...sentinelLoginOf(parameters),
      ...tls,
      ...("tls" in tls && { enableTLSForSentinelMode: true, sentinelTLS: {} }),
    };
  } catch (error) {
    throw notAnAddress(
      url,
      error instanceof URIError ? "a % in it does not start a percent-encoded byte" : messageOf(error),
    );
  }
}

function notAnAddress(url: string, why?: string): FleetError {
  const reason = why === undefined ? "" : `: ${why}`;
  return new FleetError("bad_usage", `${JSON.stringify(redactUrl(url))} is not a Redis address${reason}`, {
    cure: `use ${FORMS.join(", ")}; percent-encode special characters of passwords`,
  });
}

function credentialsOf(user: string): { username: string; password: string } {
  const colon = user.indexOf(":");
  const [name, password] = colon === -1 ? [user, ""] : [user.slice(0, colon), user.slice(colon + 1)];
  return { username: decodeURIComponent(name), password: decodeURIComponent(password) };
}

function placeOf(text: string): { host?: string; port?: number } {
  const [matched, v6, name, port] = HOST_AND_PORT.exec(text) ?? [];
  // The text is not repeated: it may be a part of a password with special characters.
  if (matched === undefined || Number(port ?? 1) < 1 || Number(port ?? 1) > 65_535)
    throw new Error("host:port is missing or not valid");
  const host = v6 ?? name;
  return { ...(host && { host }), ...(port !== undefined && { port: Number(port) }) };
}

function sentinelLoginOf(parameters: URLSearchParams): Pick<RedisOptions, "sentinelUsername" | "sentinelPassword"> {
  const [username, password] = [parameters.get("sentinelUsername"), parameters.get("sentinelPassword")];
  return { ...(username && { sentinelUsername: username }), ...(password && { sentinelPassword: password }) };
}

function databaseOf(text: string): number {
  if (text === "") return 0;
  if (/^\d{1,6}$/.test(text)) return Number(text);
  throw new Error(`databases of Redis are numbered from 0; ${JSON.stringify(text)} is not a valid database number`);
}

function parametersOf(query: string, known: ReadonlySet<string>): URLSearchParams {
  // In a form's encoding + is a space; in a password it is itself.
  const parameters = new URLSearchParams(query.replaceAll("+", "%2B"));
  for (const name of parameters.keys()) {
    // The name is not repeated: after an unencoded ? in a password it is a part of the password.
    if (!known.has(name)) throw new Error(`only these parameters are supported after the ?: ${[...known].join(", ")}`);
  }
  return parameters;
}

function familyOf(family: string | null): { family?: number } {
  if (family === null) return {};
  if (["0", "4", "6"].includes(family)) return { family: Number(family) };
  throw new Error("family must be 4, 6, or 0 for either");
}
