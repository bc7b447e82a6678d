/** The rows of a CSV text, each a list of its fields. */
export function parseCsv(text) {
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  return lines.map((line) => line.split(","));
}

/** The rows after the first as objects, with the first row's fields as their keys. */
export function parseRecords(text) {
  const [header = [], ...rows] = parseCsv(text);
  return rows.map((row) => Object.fromEntries(header.map((key, index) => [key, row[index] ?? ""])));
}
