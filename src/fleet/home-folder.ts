/** Where this user's files are. */
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";

/** The user's home; a folder of the user's own below the temporary one where HOME and a passwd entry are missing. */
export function homeFolder(): string {
  try {
    return homedir();
  } catch {
    return join(tmpdir(), `embedfleet-${process.getuid?.() ?? "user"}`);
  }
}
