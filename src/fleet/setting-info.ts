/** Metadata of a setting, from its `meta()`. */
export interface SettingInfo {
  readonly description: string;
  /** Placeholder of its value in help texts; `name...` for several. A switch has none. */
  readonly value?: string;
  /** Its default in words, where the value itself would be uninformative. */
  readonly byDefault?: string;
  /** Its environment variable, if that is another program's. */
  readonly variable?: string;
  /** The only command that has it, whose name its variable carries. */
  readonly command?: string;
}
