/** Cuts a stream of bytes into lines. */
import { StringDecoder } from "node:string_decoder";

const LINE_MAX = 4_000_000;

export interface Lines {
  push(bytes: Buffer): string[];
  /** What came after the last line end, if anything. */
  end(): string[];
}

/** A line longer than 4 million characters is cut into pieces, so that memory stays bounded. */
export function createLines(): Lines {
  const decoder = new StringDecoder("utf8");
  let rest = "";
  return { push, end };

  function push(bytes: Buffer): string[] {
    const parts = `${rest}${decoder.write(bytes)}`.split(/\r?\n/);
    rest = parts.pop() ?? "";
    if (rest.length > LINE_MAX) {
      parts.push(rest);
      rest = "";
    }
    return parts;
  }

  function end(): string[] {
    const last = `${rest}${decoder.end()}`;
    rest = "";
    return last === "" ? [] : [last];
  }
}
