/** What the spool asks of a disk, so that a test can have one that fails. */
import { type FileHandle, open, rename, rm } from "node:fs/promises";

export interface SpoolFile {
  /** All of it, at this place. */
  write(bytes: Uint8Array, at: number): Promise<void>;
  /** Durable afterwards. */
  sync(): Promise<void>;
  truncate(length: number): Promise<void>;
  close(): Promise<void>;
}

export interface SpoolDisk {
  /** Makes a file that is not there yet. */
  create(path: string): Promise<SpoolFile>;
  rename(from: string, to: string): Promise<void>;
  remove(path: string): Promise<void>;
  /** What was made and renamed in a folder is durable afterwards. */
  syncFolder(path: string): Promise<void>;
}

export const localDisk: SpoolDisk = {
  create: async (path) => spoolFile(await open(path, "wx", 0o600)),
  rename,
  remove: (path) => rm(path, { force: true }),
  syncFolder: async (path) => {
    const folder = await open(path, "r");
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  },
};

function spoolFile(file: FileHandle): SpoolFile {
  return {
    write,
    sync: () => file.datasync(),
    truncate: (length) => file.truncate(length),
    close: () => file.close(),
  };

  async function write(bytes: Uint8Array, at: number): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const { bytesWritten } = await file.write(bytes, done, bytes.length - done, at + done);
      // A disk that takes nothing and says nothing would be asked for ever.
      if (bytesWritten === 0) throw Object.assign(new Error("nothing written"), { code: "EIO" });
      done += bytesWritten;
    }
  }
}
