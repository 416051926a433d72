/** Devices by name, whatever runs a model on them. Which of them an engine can open, it says itself. */

export interface Device {
  /** `cpu`, or a word of the engine's own, such as `cuda` or `tensorrt`. */
  readonly kind: string;
  /** Which one of several; 0 on the CPU. */
  readonly index: number;
}

export const CPU: Device = { kind: "cpu", index: 0 };

/** A device, or the best that the engine finds on this machine. */
export type DeviceChoice = Device | "auto";

/**
 * @returns Null for what is no device's name, as in `cuda:0`; without a number it is the first. The CPU has none.
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
