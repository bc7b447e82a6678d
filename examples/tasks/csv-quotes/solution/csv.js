/** The rows of a CSV text, each a list of its fields. */
export function parseCsv(text) {
  const rows = [];
  let row = [];
  let field = "";
  let isQuoted = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (isQuoted) {
      if (char !== '"') field += char;
      else if (text[at + 1] === '"') field += text[++at];
      else isQuoted = false;
    } else if (char === '"' && field === "") isQuoted = true;
    else if (char === ",") endField();
    else if (char === "\n") endRow();
    else if (char !== "\r" || text[at + 1] !== "\n") field += char;
  }
  if (field !== "" || row.length > 0 || /"$/.test(text)) endRow();
  return rows;

  function endField() {
    row.push(field);
    field = "";
  }

  function endRow() {
    endField();
    rows.push(row);
    row = [];
  }
}

/** The rows after the first as objects, with the first row's fields as their keys. */
export function parseRecords(text) {
  const [header = [], ...rows] = parseCsv(text);
  return rows.map((row) => Object.fromEntries(header.map((key, index) => [key, row[index] ?? ""])));
}
