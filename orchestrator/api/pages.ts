/** The few pages that need no script: what to do without a session, and the API's description. */

const HEAD = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">`;

/** For a browser without a session. */
export function loginHintPage(): string {
  return page(
    "Log in to autocode",
    "This browser is not logged in. Run <code>npx autocode login</code> where autocode runs, and " +
      "open the link that it prints. The link works once.",
  );
}

/** For a login link that is used or too old. */
export function usedLinkPage(): string {
  return page(
    "This login link does not work",
    "It was used before, or it is too old. Run <code>npx autocode login</code> where autocode " +
      "runs, and open the new link that it prints.",
  );
}

/** What `/openapi.json` says, as a list that people can read. */
export function docsPage(document: { info: { version: string }; paths?: object }): string {
  const rows: string[] = [];
  for (const [path, methods] of Object.entries(document.paths ?? {})) {
    for (const [method, operation] of Object.entries(methods as Record<string, object>)) {
      const { summary = "", description = "" } = operation as Record<string, string>;
      const route = `${method.toUpperCase()} ${path}`;
      rows.push(
        `<tr><td><code>${escapeHtml(route)}</code></td>` +
          `<td>${escapeHtml(summary)}</td><td>${escapeHtml(description)}</td></tr>`,
      );
    }
  }
  return `${HEAD}
<title>autocode API</title>
<main>
<h1>autocode API ${escapeHtml(document.info.version)}</h1>
<p>The whole description, for tools: <a href="/openapi.json">/openapi.json</a>. Errors are
problems (RFC 9457). Amounts are nano-units of the currency, as text.</p>
<table>
<thead><tr><th>Route</th><th>What it does</th><th>Who may call it</th></tr></thead>
<tbody>
${rows.join("\n")}
</tbody>
</table>
</main>
</html>
`;
}

function page(title: string, text: string): string {
  return `${HEAD}
<title>${title}</title>
<main>
<h1>${title}</h1>
<p>${text}</p>
</main>
</html>
`;
}

function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (character) => `&#${character.charCodeAt(0)};`);
}
