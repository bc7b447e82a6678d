/** All that the command line prints. Results go to standard output, the rest to standard error. */
import { pipeline } from "node:stream/promises";
import { safeLine, safeLines, safeText } from "./safe-text.ts";

export interface Column<Row> {
  title: string;
  value: (row: Row) => string;
  align?: "right";
  /** Whether it may be cut to make the table fit. */
  shrinks?: boolean;
  /** What the cell's colour says, where there are colours. */
  tone?: (row: Row) => Tone | null;
}

export type Tone = "good" | "bad" | "warn" | "dim";

export interface Printer {
  readonly isTty: boolean;
  /** A line of the result; text from a server is made safe. */
  line(text: string): void;
  /** Words of a line that have a colour of their own on a terminal: each part is made safe. */
  parts(parts: readonly (string | readonly [string, Tone | null])[]): void;
  /** The result as it is, for files and pipes. */
  raw(text: string): void;
  /** The result as it comes, no faster than its reader takes it. */
  pour(bytes: AsyncIterable<Uint8Array>): Promise<void>;
  /** Text as it comes, made safe. */
  pourText(bytes: AsyncIterable<Uint8Array>): Promise<void>;
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
const COLOURS: Readonly<Record<Tone, string>> = { good: "32", bad: "31", warn: "33", dim: "2" };

export function createPrinter({ wantsColour }: { wantsColour: boolean }): Printer {
  const isTty = process.stderr.isTTY === true;
  const dim = isTty && wantsColour ? (text: string) => `\u001b[2m${text}\u001b[22m` : String;
  const paint = process.stdout.isTTY === true && wantsColour ? coloured : (text: string) => text;
  let lastStep = "";
  let isShowing = false;
  return { isTty, line, parts, raw, pour, pourText, json, table, note, progress, clearProgress };

  function line(text: string): void {
    clearProgress();
    console.log(safeText(text));
  }

  function parts(given: Parameters<Printer["parts"]>[0]): void {
    clearProgress();
    const painted = given.map((part) => {
      const [text, tone] = typeof part === "string" ? [part, null] : part;
      return paint(safeText(text), tone);
    });
    console.log(painted.join(""));
  }

  function raw(text: string): void {
    clearProgress();
    process.stdout.write(text);
  }

  function pour(bytes: AsyncIterable<Uint8Array>): Promise<void> {
    clearProgress();
    return pipeline(bytes, process.stdout, { end: false });
  }

  function pourText(bytes: AsyncIterable<Uint8Array>): Promise<void> {
    clearProgress();
    return pipeline(safeLines(bytes), process.stdout, { end: false });
  }

  function json(value: unknown): void {
    raw(`${JSON.stringify(value, null, 2)}\n`);
  }

  function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[]): void {
    clearProgress();
    // Its cells are made safe where they are laid out; colours come after that.
    for (const text of layOut(columns, rows, paint)) console.log(text);
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
export function layOut<Row>(
  columns: readonly Column<Row>[],
  rows: readonly Row[],
  paint: (text: string, tone: Tone | null) => string = (text) => text,
): string[] {
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
  return cells.map((line, number) => {
    const row = rows[number - 1];
    const shown = line.map((cell, index) => {
      const { align, tone } = columns[index] ?? {};
      const padded = pad(cut(cell, widths[index] ?? 0), widths[index] ?? 0, align);
      const text = index === line.length - 1 ? padded.trimEnd() : padded;
      return row === undefined ? text : paint(text, tone?.(row) ?? null);
    });
    return shown.join(GAP).trimEnd();
  });
}

function coloured(text: string, tone: Tone | null): string {
  return tone === null ? text : `\u001b[${COLOURS[tone]}m${text}\u001b[0m`;
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
