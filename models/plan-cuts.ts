/**
 * Which cuts of a model over GPUs vLLM makes. Pure.
 *
 * Tensor parallelism gives each GPU the same part of every matrix: whole heads, and of quantised
 * weights whole blocks, as the values of a block have one scale. vLLM refuses all else as it
 * loads, so nothing that fits may need it.
 */
import type { Architecture, Quantisation } from "./card.ts";
import type { Split } from "./plan-memory.ts";

/** vLLM's moe_wna16 repeats the scales of experts' 4-bit weights, down to blocks of so many. */
const EXPERT_BLOCK_MIN = 32;

export function canSplit(
  architecture: Architecture,
  quantisation: Quantisation,
  split: Split,
): boolean {
  return (
    canShareHeads(architecture, split.tensor) &&
    split.pipeline <= architecture.layers &&
    brokenBlock(architecture, quantisation, split.tensor) === null
  );
}

/** KV heads are shared out, or each copied a whole number of times. */
function canShareHeads({ heads, kvHeads }: Architecture, tensor: number): boolean {
  const sharesKv = kvHeads % tensor === 0 || tensor % kvHeads === 0;
  return heads % tensor === 0 && sharesKv;
}

/** Why an engine on `gpus` is not cut by tensors over more of them; null: no block forbids it. */
export function blockFault(
  architecture: Architecture,
  quantisation: Quantisation,
  { tensor, gpus }: { tensor: number; gpus: number },
): string | null {
  for (let wider = tensor + 1; wider <= gpus; wider++) {
    const broken = brokenBlock(architecture, quantisation, wider);
    if (broken === null || !canShareHeads(architecture, wider)) continue;
    const { part, width, block } = broken;
    const each = Number((width / wider).toFixed(2));
    return (
      `tensor parallel ${wider} gives each GPU ${width} / ${wider} = ${each} of ${part}, ` +
      (block === 1 ? "which is not whole" : `which is no multiple of the block of ${block}`)
    );
  }
  return null;
}

interface Broken {
  readonly part: string;
  readonly width: number;
  readonly block: number;
}

/** The first width that a cut does not leave in whole blocks; null: all are whole. */
function brokenBlock(
  { intermediate, experts, heads, headDim }: Architecture,
  quantisation: Quantisation,
  tensor: number,
): Broken | null {
  if (tensor === 1) return null;
  const block = quantisation.block ?? 1;
  const widths: Broken[] = [
    experts === null
      ? { part: "the feed-forward", width: intermediate, block }
      : {
          part: "an expert",
          width: intermediate / experts.perToken,
          block: expertBlock(quantisation),
        },
    { part: "the attention", width: heads * headDim, block },
  ];
  return widths.find(({ width, block: whole }) => (width / tensor) % whole !== 0) ?? null;
}

/** Only 4-bit experts have their scales repeated; fp8's are as the checkpoint has them. */
function expertBlock({ name, block = 1 }: Quantisation): number {
  let finest = block;
  while (name.includes("int4") && finest % 2 === 0 && finest / 2 >= EXPERT_BLOCK_MIN) finest /= 2;
  return finest;
}
