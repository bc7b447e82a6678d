/** `model rm`: model weights that nobody needs any more. */
import type { RemovedWeights } from "../../contract/weights.ts";
import { type Command, JSON_OPTION } from "../command.ts";
import { EXIT } from "../failure.ts";
import { byteText } from "../flow-rows.ts";

export const modelRm: Command = {
  name: "model rm",
  summary: "Remove the weights of a pair or of one model from the server's store",
  positionals: [{ name: "pair|model", isRequired: true }],
  options: {
    quantisation: { type: "string", value: "<name>", help: "Only these weights (all of them)" },
    json: JSON_OPTION,
  },
  notes: ["Refused while an engine uses them: `model down` first."],
  async run({ positionals: [model = ""], options, print, connect }) {
    const quantisation = options.text("quantisation");
    const body = { model, ...(quantisation !== undefined && { quantisation }) };
    const client = await connect();
    const answer = await client.post<RemovedWeights>("models/remove", body);
    if (options.flag("json")) {
      print.json(answer);
      return EXIT.done;
    }
    for (const { model: name, quantisation: which, bytes } of answer.removed) {
      print.line(`${name} ${which} is removed: ${byteText(bytes)}`);
    }
    print.line(`${byteText(answer.freed_bytes)} (${answer.freed_bytes} bytes) are free again`);
    return EXIT.done;
  },
};
