/** Content codings undone, as a stream: memory stays bounded whatever a body grows to. */
import type { Duplex } from "node:stream";
import {
  createBrotliDecompress,
  createGunzip,
  createInflate,
  createZstdDecompress,
} from "node:zlib";

const DECODERS: Readonly<Record<string, () => Duplex>> = {
  gzip: () => createGunzip(),
  "x-gzip": () => createGunzip(),
  deflate: () => createInflate(),
  br: () => createBrotliDecompress(),
  zstd: () => createZstdDecompress(),
};

/** "none": it is as it is; "unknown": a coding we have no decoder of, or several. */
export function decoderOf(codings: readonly string[]): Duplex | "none" | "unknown" {
  const named = codings
    .join(",")
    .split(",")
    .map((coding) => coding.trim().toLowerCase())
    .filter((coding) => coding !== "" && coding !== "identity");
  const [coding] = named;
  if (coding === undefined) return "none";
  const make = named.length === 1 && Object.hasOwn(DECODERS, coding) ? DECODERS[coding] : undefined;
  return make === undefined ? "unknown" : make();
}
