/** What a process that is started gets of this one's environment. */

/** Of the variables that are the command line's. */
export const PREFIX = "EMBEDFLEET_";

/**
 * This process's environment without the variables of the command line: a child process gets its settings from its
 * parent alone, and what its parent was told is not told it a second time.
 */
export function childEnvironment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith(PREFIX)));
}
