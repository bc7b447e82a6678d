/** What `autocode restore` did: told by whoever restores to the command that asked. */
export interface Restored {
  created_at: string;
  version: string;
  secrets: string;
  tables: number;
  files: number;
  transfers: number;
  /** Trials that ran: they begin their try again. */
  requeued: number;
  missing: string[];
  /** Where what was there before is; null when nothing was. */
  replaced: string | null;
}
