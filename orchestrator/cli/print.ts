/** All that the command line prints. Results go to standard output, the rest to standard error. */
import { pipeline } from "node:stream/promises";
import { safeLine, safeText } from "./safe-text.ts";

export interface Column<Row> {
  title: string;
  value: (row: Row) => string;
  align?: "right";
  /** Whether it may be cut to make the table fit. */
  shrinks?: boolean;
}

export interface Printer {
  readonly isTty: boolean;
  /** A line of the result; text from a server is made safe. */
  line(text: string): void;
  /** The result as it is, for files and pipes. */
  raw(text: string): void;
  /** The result as it comes, no faster than its reader takes it. */
  pour(bytes: AsyncIterable<Uint8Array>): Promise<void>;
  json(value: unknown): void;
  table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): void;
  /** A line for people beside the result. */
  note(text: string): void;
  /** The live line: rewritten on a terminal; elsewhere printed when `step` changes. */
  progress(text: string, step: string): void;
  clearProgress(): void;
}

const WIDTH = 80;
const GAP = "  ";
const CLEAR_LINE = "\r\u001b[2K";

export function createPrinter({ wantsColour }: { wantsColour: boolean }): Printer {
  const isTty = process.stderr.isTTY === true;
  const dim = isTty && wantsColour ? (text: string) => `\u001b[2m${text}\u001b[22m` : String;
  let lastStep = "";
  let isShowing = false;
  return { isTty, line, raw, pour, json, table, note, progress, clearProgress };

  function line(text: string): void {
    clearProgress();
    console.log(safeText(text));
  }

  function raw(text: string): void {
    clearProgress();
    process.stdout.write(text);
  }

  function pour(bytes: AsyncIterable<Uint8Array>): Promise<void> {
    clearProgress();
    return pipeline(bytes, process.stdout, { end: false });
  }

  function json(value: unknown): void {
    raw(`${JSON.stringify(value, null, 2)}\n`);
  }

  function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): void {
    for (const text of layOut(columns, rows)) line(text);
  }

  function note(text: string): void {
    clearProgress();
    console.error(dim(safeText(text)));
  }

  function progress(text: string, step: string): void {
    const plain = safeLine(text);
    if (!isTty) {
      if (step !== lastStep) console.error(plain);
    } else {
      process.stderr.write(CLEAR_LINE + dim(cut(plain, (process.stderr.columns ?? WIDTH) - 1)));
      isShowing = true;
    }
    lastStep = step;
  }

  function clearProgress(): void {
    if (isShowing) process.stderr.write(CLEAR_LINE);
    isShowing = false;
  }
}

/** A line for people, where there is no command to print for. */
export function print(text: string): void {
  console.log(safeText(text));
}

export function printError(text: string): void {
  console.error(safeText(text));
}

/** The table's lines: within 80 columns, by cutting the columns that may shrink, widest first. */
export function layOut<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): string[] {
  const cells = [
    columns.map(({ title }) => title),
    ...rows.map((row) => columns.map(({ value }) => safeLine(value(row)))),
  ];
  const widths = columns.map((_, index) =>
    Math.max(...cells.map((row) => width(row[index] ?? ""))),
  );
  const total = () => widths.reduce((sum, each) => sum + each + GAP.length, -GAP.length);
  while (total() > WIDTH) {
    let widest = -1;
    for (const [index, { shrinks, title }] of columns.entries()) {
      const current = widths[index] ?? 0;
      if (shrinks === true && current > Math.max(4, title.length)) {
        if (widest === -1 || current > (widths[widest] ?? 0)) widest = index;
      }
    }
    if (widest === -1) break;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return cells.map((row) =>
    row
      .map((cell, index) =>
        pad(cut(cell, widths[index] ?? 0), widths[index] ?? 0, columns[index]?.align),
      )
      .join(GAP)
      .trimEnd(),
  );
}

function cut(text: string, widthMax: number): string {
  return width(text) <= widthMax
    ? text
    : `${[...text].slice(0, Math.max(0, widthMax - 1)).join("")}…`;
}

function pad(text: string, to: number, align: "right" | undefined): string {
  const filling = " ".repeat(Math.max(0, to - width(text)));
  return align === "right" ? filling + text : text + filling;
}

function width(text: string): number {
  return [...text].length;
}
