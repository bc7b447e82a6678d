import type { OpenEngine } from "../world.ts";

export function testHostile(_name: string, _open: OpenEngine): void {}
