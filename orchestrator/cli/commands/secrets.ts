/** Secrets: kept by the server's engine. A value comes on standard input, never as an argument. */
import { text } from "node:stream/consumers";
import type {
  IssuedToken,
  Resealed,
  RevealedSecret,
  RotatedKey,
  SecretList,
  SecretsReport,
  StoredSecret,
} from "../../contract/secrets.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT, usage } from "../failure.ts";

const PATH = [{ name: "path", isRequired: true }] as const;
const SECONDS_MAX = 86_400;

export const secretStatus: Command = {
  name: "secret status",
  summary: "Say which engine holds the secrets, and whether it can be opened",
  options: { json: JSON_OPTION },
  async run({ options, print, connect }) {
    const report = await (await connect()).get<SecretsReport>("secrets/status");
    if (options.flag("json")) print.json(report);
    else {
      print.line(`engine  ${report.engine}`);
      print.line(`state   ${report.state}`);
      print.line(`detail  ${report.detail}`);
      print.line(`key     ${report.key_id ?? "not to be asked for now"}`);
    }
    return report.state === "ready" ? EXIT.done : EXIT.unavailable;
  },
};

export const secretLs: Command = {
  name: "secret ls",
  summary: "List the secrets' paths, never their values",
  options: { json: JSON_OPTION },
  async run({ options, print, connect }) {
    const { paths } = await (await connect()).get<SecretList>("secrets");
    if (options.flag("json")) print.json(paths);
    else for (const path of paths) print.line(path);
    return EXIT.done;
  },
};

export const secretGet: Command = {
  name: "secret get",
  summary: "Say that a secret is there; with --reveal, print its value",
  positionals: PATH,
  options: {
    reveal: { type: "boolean", help: "Print the value; the server notes that it was asked for" },
    version: { type: "string", value: "<n>", help: "An older version, while it is kept" },
    json: JSON_OPTION,
  },
  async run({ positionals: [path = ""], options, print, connect }) {
    const client = await connect();
    if (!options.flag("reveal")) {
      const { paths } = await client.get<SecretList>("secrets");
      const isThere = paths.includes(path);
      if (options.flag("json")) print.json({ path, is_there: isThere });
      else print.line(isThere ? `${path} is there; --reveal prints it` : `there is no ${path}`);
      return isThere ? EXIT.done : EXIT.failed;
    }
    const version = options.integer("version", { min: 1, max: 1_000_000_000 });
    const body = { path, ...(version !== undefined && { version }) };
    const secret = await client.post<RevealedSecret>("secrets/reveal", body);
    if (options.flag("json")) print.json(secret);
    else print.raw(print.isTty ? `${secret.value}\n` : secret.value);
    return EXIT.done;
  },
};

export const secretPut: Command = {
  name: "secret put",
  summary: "Write a secret from standard input; its next version is in force at once",
  positionals: PATH,
  options: {
    "expected-version": {
      type: "string",
      value: "<n>",
      help: "Only over this version; 0: only where there is none",
    },
    json: JSON_OPTION,
  },
  notes: [
    "provider/openai is what OPENAI_API_KEY would be, provider/my_server MY_SERVER_API_KEY, where",
    "that variable is not set. One newline at the end of the input is not part of the value.",
  ],
  async run({ positionals: [path = ""], options, print, connect }) {
    const expected = options.integer("expected-version", { min: 0, max: 1_000_000_000 });
    const client = await connect();
    if (process.stdin.isTTY) print.note("Type the value, then Ctrl-D:");
    const value = (await text(process.stdin)).replace(/\r?\n$/, "");
    if (value === "") throw usage("the value comes on standard input, and there was none");
    const body = { path, value, ...(expected !== undefined && { expected_version: expected }) };
    const stored = await client.post<StoredSecret>("secrets", body);
    if (options.flag("json")) print.json(stored);
    else print.line(`${path} is at version ${stored.version}`);
    return EXIT.done;
  },
};

export const secretRm: Command = {
  name: "secret rm",
  summary: "Forget a secret with all its versions",
  positionals: PATH,
  async run({ positionals: [path = ""], print, connect }) {
    await (await connect()).post("secrets/remove", { path });
    print.line(`${path} is forgotten`);
    return EXIT.done;
  },
};

export const secretRotateKey: Command = {
  name: "secret rotate-key",
  summary: "Make a new signing key; what the former ones signed still holds",
  options: { json: JSON_OPTION },
  async run({ options, print, connect }) {
    const rotated = await (await connect()).post<RotatedKey>("secrets/rotate-key");
    if (options.flag("json")) print.json(rotated);
    else print.line(`signs with ${rotated.key_id}`);
    return EXIT.done;
  },
};

export const secretReseal: Command = {
  name: "secret reseal",
  summary: "Seal the file of secrets anew, with a new key file or with a passphrase",
  options: {
    "passphrase-stdin": {
      type: "boolean",
      help: "With the passphrase on standard input, which the next start asks for",
    },
    json: JSON_OPTION,
  },
  async run({ options, print, connect }) {
    const client = await connect();
    const given = options.flag("passphrase-stdin");
    const passphrase = given ? (await text(process.stdin)).replace(/\r?\n$/, "") : null;
    const resealed = await client.post<Resealed>("secrets/reseal", { passphrase });
    if (options.flag("json")) print.json(resealed);
    else if (passphrase === null) print.line("sealed with a new key file");
    else
      print.line("sealed with the passphrase: set AUTOCODE_SECRETS_PASSPHRASE at the next start");
    return EXIT.done;
  },
};

export const secretToken: Command = {
  name: "secret token",
  summary: "Issue a short-lived token of a Vault that reads one secret and nothing else",
  positionals: PATH,
  options: {
    also: { type: "string", multiple: true, value: "<path>", help: "One more secret" },
    for: { type: "string", value: "<purpose>", help: "Written beside it: a trial's id (by hand)" },
    seconds: { type: "string", value: "<n>", help: "How long it is good for (300)" },
    uses: { type: "string", value: "<n>", help: "How many reads (one for each secret)" },
    plain: { type: "boolean", help: "Not wrapped: the token itself, for who cannot unwrap" },
    json: JSON_OPTION,
  },
  notes: ["Unwrap it first (bao unwrap): a second unwrap is refused, so a thief is found out."],
  async run({ positionals: [path = ""], options, print, connect }) {
    const paths = [path, ...options.list("also")];
    const seconds = options.integer("seconds", { min: 1, max: SECONDS_MAX }) ?? 300;
    const issued = await (await connect()).post<IssuedToken>("secrets/tokens", {
      paths,
      ttl_ms: seconds * 1000,
      uses: options.integer("uses", { min: 1, max: 1_000 }) ?? paths.length,
      is_wrapped: !options.flag("plain"),
      purpose: options.text("for") ?? "by hand",
    });
    if (options.flag("json")) print.json(issued);
    else {
      print.line(issued.token);
      for (const { path: from, place } of issued.places) print.note(`${from}: ${place}`);
    }
    return EXIT.done;
  },
};
