/** The environment of child processes. */

/** Prefix of the command line's environment variables. */
export const PREFIX = "EMBEDFLEET_";

/**
 * This process's environment without the command line's variables: a child process gets its settings from its parent
 * alone, and a setting that the parent has already applied is not applied again.
 */
export function childEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith(PREFIX)));
}
