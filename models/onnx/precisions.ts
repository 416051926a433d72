/** The precisions that ONNX Runtime computes, with a sound model's minimum mean cosine to PyTorch's float32. */
import type { Precision } from "../../src/core/contracts.ts";

export const PRECISIONS: Readonly<Partial<Record<Precision, number>>> = { fp32: 0.99999, fp16: 0.9995, int8: 0.985 };
