/**
 * Switches off ONNX Runtime's telemetry, which would write processor, paths and model names below `~/.cache/Microsoft` and
 * send them. Must be imported before the runtime. `ORT_DISABLE_TELEMETRY=0` in the environment leaves the choice to the user.
 */
process.env["ORT_DISABLE_TELEMETRY"] ??= "1";
