/** Deterministic UUIDs. */
import { createHash } from "node:crypto";
import { rowKey } from "../core/rows.ts";

/** Namespace of embedfleet's rows, used for nothing else. */
const ROW_NAMESPACE = "6f1c1f3e-7a43-5c0b-9d0e-2b6f0c1a9e57";

/**
 * A UUID of version 5 (RFC 9562): SHA-1 of the namespace and the name.
 * @param namespace A UUID.
 */
export function uuidV5(namespace: string, name: string): string {
  const bytes = createHash("sha1")
    .update(Buffer.from(namespace.replaceAll("-", ""), "hex"))
    .update(name, "utf8")
    .digest()
    .subarray(0, 16);
  bytes[6] = (bytes[6]! & 0x0f) | 0x50;
  bytes[8] = (bytes[8]! & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** UUID of a document's chunk, equal in every run, so that loading it again replaces the earlier row. */
export function rowUuid(id: string, chunk: number): string {
  return uuidV5(ROW_NAMESPACE, rowKey(id, chunk));
}
