/** Device names, for every engine. Which devices an engine can open is known to the engine. */

export interface Device {
  /** `cpu`, or a word that the engine defines, such as `cuda` or `tensorrt`. */
  readonly kind: string;
  /** Index among several devices of the kind; 0 on the CPU. */
  readonly index: number;
}

export const CPU: Device = { kind: "cpu", index: 0 };

/** A device, or `auto` for the best that the engine finds on this machine. */
export type DeviceChoice = Device | "auto";

/**
 * @param text A name such as `cuda:0`; without a number it is the first device. The CPU has no number.
 * @returns Null when the text is not a device name.
 */
export function parseDevice(text: string): Device | null {
  const [, kind, index] = /^([a-z][a-z0-9]{0,31})(?::(\d{1,2}))?$/.exec(text) ?? [];
  if (kind === undefined || kind === "auto" || (kind === "cpu" && index !== undefined)) return null;
  return { kind, index: Number(index ?? 0) };
}

/** `cpu`, `cuda:0`, `tensorrt:1` */
export function deviceName({ kind, index }: Device): string {
  return kind === "cpu" ? "cpu" : `${kind}:${index}`;
}
