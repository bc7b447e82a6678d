import type { OpenEngine } from "../world.ts";

export function testStreams(_name: string, _open: OpenEngine): void {}
