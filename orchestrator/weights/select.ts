/**
 * Which files of a repository a server needs: weights as safetensors, configuration, tokenizer,
 * template, licence. Pure.
 *
 * Invariant: what it returns are names in the model's own folder.
 */
import { Problem } from "../problem.ts";
import { MANIFEST } from "./manifest.ts";

/** Weights that are in one format twice (Mistral's own), beside those that vLLM takes first. */
const DOUBLES = /^consolidated.*\.safetensors$/;
const SAFETENSORS = /\.safetensors$/;
const PICKLED = /^pytorch_model.*\.bin$/;
const BESIDE =
  /^(?!.*(onnx|openvino|gguf))(.+\.(json|jinja|model|tiktoken)|(vocab|merges)\.txt|(license|licence|notice|use_policy)(\.(txt|md))?)$/i;
const INDEX = /^pytorch_model.*\.index\.json$/;

/**
 * The files to pull, of those a repository has.
 *
 * @throws Problem `upstream_failed` when one is outside of the folder, or when it has no weights.
 */
export function neededFiles<File extends { readonly path: string }>(
  repository: string,
  files: readonly File[],
): File[] {
  const outside = files.find(({ path }) => isOutside(path));
  if (outside !== undefined) {
    throw new Problem(
      "upstream_failed",
      `${repository} lists ${JSON.stringify(outside.path)}, which is outside of its own folder: ` +
        "nothing of it was fetched",
    );
  }
  // Folders hold other formats (onnx, original, gguf): a server reads none of them.
  // The manifest is the store's word of what it checked, never a hub's.
  const own = files.filter(({ path }) => !path.includes("/") && path !== MANIFEST);
  const tensors = own.filter(({ path }) => SAFETENSORS.test(path));
  const singles = tensors.filter(({ path }) => !DOUBLES.test(path));
  const pickled = own.filter(({ path }) => PICKLED.test(path));
  const weights = [singles, tensors, pickled].find((group) => group.length > 0);
  if (weights === undefined) {
    throw new Problem(
      "upstream_failed",
      `${repository} has no weights (*.safetensors): name another repository in the model's card`,
    );
  }
  const hasTensors = weights !== pickled;
  const beside = own.filter(({ path }) => BESIDE.test(path) && !(hasTensors && INDEX.test(path)));
  return [...beside, ...weights];
}

export function isWeightFile(path: string): boolean {
  return SAFETENSORS.test(path) || PICKLED.test(path);
}

function isOutside(path: string): boolean {
  return (
    path === "" ||
    path.startsWith("/") ||
    /[\\\0]/.test(path) ||
    path.split("/").some((part) => part === ".." || part === "." || part === "")
  );
}
