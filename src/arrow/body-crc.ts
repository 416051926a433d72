/**
 * CRC-32 of a result file's columns, in its schema's metadata: readers detect any changed bit, also in a vector, where
 * every bit pattern is valid. CRC-32 is for accidental damage; against tampering there are the digests of plan and
 * manifest. It is also three times as fast as SHA-256.
 */
import { crc32 } from "node:zlib";
import { batchBody } from "./check-metadata.ts";

/** Key in the schema's metadata. */
export const CRC_KEY = "embedfleet.crc32";
/** Placeholder while the columns are written: as long as the digits, but not hexadecimal. */
export const CRC_UNKNOWN = "--------";

/** The placeholder as a string of a flatbuffer, with its length first; no JSON text contains a byte of 8. */
const PLACE = Buffer.concat([Buffer.from([CRC_UNKNOWN.length, 0, 0, 0]), Buffer.from(`${CRC_UNKNOWN}\0`)]);
const DIGITS_AT = 4;

/** Writes the CRC-32 into a file with `CRC_UNKNOWN` in its metadata, which is in the footer, after the columns. */
export function sealBody(file: Uint8Array): void {
  const body = batchBody(file);
  const bodyEnd = body.byteOffset - file.byteOffset + body.length;
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  const at = bytes.indexOf(PLACE, bodyEnd);
  if (at === -1) throw new Error(`no place for ${CRC_KEY} was left in the file`);
  bytes.write(crcOf(body), at + DIGITS_AT, "latin1");
}

/** @returns The CRC-32 of the file's columns if it differs, or null. @param written Undefined in files of earlier versions. */
export function changedBody(file: Uint8Array, written: string | undefined): string | null {
  if (written === undefined) return null;
  const found = crcOf(batchBody(file));
  return found === written ? null : found;
}

function crcOf(bytes: Uint8Array): string {
  return crc32(bytes).toString(16).padStart(8, "0");
}
