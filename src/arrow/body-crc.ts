/**
 * A CRC-32 of a result file's columns, in its schema's metadata: whoever reads the file sees when a bit of it is another than
 * its worker wrote, also in a vector, where every bit pattern is as good as another. CRC-32 is for accidents; what others
 * might do is for the digests of plan and manifest. It is also three times as fast as SHA-256.
 */
import { crc32 } from "node:zlib";
import { batchBody } from "./check-metadata.ts";

/** Where the schema's metadata has it. */
export const CRC_KEY = "embedfleet.crc32";
/** Stands where the digits come when the columns are written: as many, and no hexadecimal ones. */
export const CRC_UNKNOWN = "--------";

/** A string of a flatbuffer, which has its length before it; no JSON text has a byte of 8 in it. */
const PLACE = Buffer.concat([Buffer.from([CRC_UNKNOWN.length, 0, 0, 0]), Buffer.from(`${CRC_UNKNOWN}\0`)]);
const DIGITS_AT = 4;

/** Puts the CRC-32 into a file that has `CRC_UNKNOWN` in its metadata, which lies in the footer, after the columns. */
export function sealBody(file: Uint8Array): void {
  const body = batchBody(file);
  const bodyEnd = body.byteOffset - file.byteOffset + body.length;
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.byteLength);
  const at = bytes.indexOf(PLACE, bodyEnd);
  if (at === -1) throw new Error(`no place for ${CRC_KEY} was left in the file`);
  bytes.write(crcOf(body), at + DIGITS_AT, "latin1");
}

/** @returns The CRC-32 that the file's columns have, or null when it is as written. @param written Undefined in files of before. */
export function changedBody(file: Uint8Array, written: string | undefined): string | null {
  if (written === undefined) return null;
  const found = crcOf(batchBody(file));
  return found === written ? null : found;
}

function crcOf(bytes: Uint8Array): string {
  return crc32(bytes).toString(16).padStart(8, "0");
}
